"""Placement of physical experts: SGLang's trivial order, or balanced by a recorded load (EPLB).

:func:`place` returns a placement, :func:`optimise` also its distance from the best possible one. Three steps, all
on all layers at once: replicas go to the experts with the highest load per replica (:mod:`.replicas`), slots are packed
into ranks (:mod:`.packing`), and slots are swapped between ranks until no swap helps (:mod:`.pairs`, :mod:`.search`).
"""

from wideloop.tuning.placement.bound import lower_bound
from wideloop.tuning.placement.files import read
from wideloop.tuning.placement.movement import arranged, moved
from wideloop.tuning.placement.placement import Placement, balancedness, rank_load, slot_load, trivial
from wideloop.tuning.placement.search import Objective
from wideloop.tuning.placement.solve import Plan, greedy, optimise, place

__all__ = [
    "Objective",
    "Placement",
    "Plan",
    "arranged",
    "balancedness",
    "greedy",
    "lower_bound",
    "moved",
    "optimise",
    "place",
    "rank_load",
    "read",
    "slot_load",
    "trivial",
]
