"""Why an engine ended, by its log: one table of causes for all engines, read by one rule.

:func:`diagnose` is what engines call, with causes of their own before :data:`CAUSES` where they have any. Each module
beside it holds the causes of one area; a new one is a row there and a row in the test of faces.
"""

from wideloop.manifests.failures.cause import Cause, cause
from wideloop.manifests.failures.diagnose import CAUSES, diagnose

__all__ = ["CAUSES", "Cause", "cause", "diagnose"]
