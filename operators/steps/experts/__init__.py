"""Experts: record which ones a workload uses, place them by it, and show what that is worth.

In the order of a run: :func:`dump` (or :func:`examine`, which also asks and reads logs), :func:`analyse`,
:func:`placed_spec` for the second deployment, :func:`compare`.
"""

from wideloop.operators.steps.experts.collect import dump
from wideloop.operators.steps.experts.comparison import compare
from wideloop.operators.steps.experts.examination import Examined, examine
from wideloop.operators.steps.experts.place import analyse, placed_spec, placements

__all__ = ["Examined", "analyse", "compare", "dump", "examine", "placed_spec", "placements"]
