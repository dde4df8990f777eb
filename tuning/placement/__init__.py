"""Where physical experts live: in SGLang's trivial order, or balanced by a recorded load (EPLB).

:func:`place` gives a placement, :func:`optimise` also says how near to the best possible it is. Three steps, all
on all layers at once: replicas go where the load per replica is highest (:mod:`.replicas`), slots are packed into
ranks (:mod:`.packing`), and slots are swapped between ranks until none helps (:mod:`.pairs`, :mod:`.search`).
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
