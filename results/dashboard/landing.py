"""The cycle that a visitor sees first: the newest whole cycle, because it recommends a configuration."""

from __future__ import annotations

from pydantic import BaseModel
from wideloop.results.dashboard.kinds import CYCLE_DAG, kind_of
from wideloop.results.records import Cycle, Recommendation
from wideloop.results.store import Store

#: Number of newest cycles among which to look for a measurement or a recommendation.
_SEARCHED = 50


class Recommended(BaseModel):
    """An earlier cycle and its recommendation."""

    cycle: Cycle
    recommendation: Recommendation


class Landing(BaseModel):
    """The cycle to show.

    ``newer``: a run that began later and is not shown. ``recommended``: the newest recommendation, if the cycle
    that is shown has none (yet).
    """

    cycle: Cycle
    newer: Cycle | None = None
    recommended: Recommended | None = None


def landing(store: Store) -> Landing | None:
    """The newest whole cycle, whatever its state; without one, the newest run that measures; else the newest.

    None when the store is empty.
    """
    newest = next(iter(store.cycles(1)), None)
    if newest is None:
        return None
    whole = store.cycles(_SEARCHED, dag_id=CYCLE_DAG)
    shown = whole[0] if whole else _measuring(store) or newest
    return Landing(
        cycle=shown,
        newer=None if newest.cycle_id == shown.cycle_id else newest,
        recommended=_recommended(store, whole),
    )


def _measuring(store: Store) -> Cycle | None:
    def measures(cycle: Cycle) -> bool:
        if cycle.state == "running" and kind_of(cycle.dag_id) != "stages":
            return True
        return bool(store.trials(cycle_id=cycle.cycle_id) or store.measurements(cycle_id=cycle.cycle_id))

    return next((cycle for cycle in store.cycles(_SEARCHED) if measures(cycle)), None)


def _recommended(store: Store, whole: list[Cycle]) -> Recommended | None:
    for cycle in whole:
        recommendation = store.recommendation(cycle.cycle_id)
        if recommendation is not None:
            return None if cycle is whole[0] else Recommended(cycle=cycle, recommendation=recommendation)
    return None
