"""Is balancing experts worth it here, and with how many redundant ones? From a recording, before anything is paid.

:func:`options` says of every valid number of redundant experts what it gains and costs; :func:`verdict` chooses.
"""

from wideloop.tuning.advice.options import Option, Phase, Traffic, halves, layouts, options
from wideloop.tuning.advice.verdict import Verdict, verdict

__all__ = ["Option", "Phase", "Traffic", "Verdict", "halves", "layouts", "options", "verdict"]
