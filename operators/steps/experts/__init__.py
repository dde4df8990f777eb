"""Experts: record which ones a workload uses, place them by it, and show what that is worth.

In the order of a run: :func:`dump` (or :func:`examine`, which also asks and reads logs), :func:`analyse`,
:func:`placed_spec` for the second deployment, then :func:`prove` or :func:`compare`, which proves as well.
"""

from wideloop.operators.steps.experts.collect import dump, kept_recordings
from wideloop.operators.steps.experts.compare import compare
from wideloop.operators.steps.experts.examination import Examined, examine
from wideloop.operators.steps.experts.place import analyse, placed_spec, placements
from wideloop.operators.steps.experts.proof import prove

__all__ = [
    "Examined",
    "analyse",
    "compare",
    "dump",
    "examine",
    "kept_recordings",
    "placed_spec",
    "placements",
    "prove",
]
