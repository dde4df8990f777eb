"""Everything that can be known of a cluster before a GPU of it is taken: one table of checks.

:func:`preflight` is what a target calls; each module here looks at one side of a cluster.
"""

from wideloop.operators.targets.kubernetes.preflight.access import check_account
from wideloop.operators.targets.kubernetes.preflight.check_result import table
from wideloop.operators.targets.kubernetes.preflight.checks import preflight, run_checks
from wideloop.operators.targets.kubernetes.preflight.network import check_network

__all__ = ["check_account", "check_network", "preflight", "run_checks", "table"]
