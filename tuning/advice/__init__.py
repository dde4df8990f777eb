"""Whether balancing experts is worth its cost, and with how many redundant experts, predicted from a recording.

:func:`options` predicts gain and cost of every valid number of redundant experts; :func:`verdict` chooses one.
"""

from wideloop.tuning.advice.options import Option, Phase, Traffic, dispatch_nodes, halves, layouts, options
from wideloop.tuning.advice.verdict import Verdict, chunk_remark, verdict

__all__ = [
    "Option", "Phase", "Traffic", "Verdict", "chunk_remark", "dispatch_nodes", "halves", "layouts", "options",
    "verdict",
]  # fmt: skip
