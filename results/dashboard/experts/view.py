"""Everything the experts' page shows of a cycle, from the documents that its steps kept."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard.experts import charts
from wideloop.results.dashboard.view import SIMULATED
from wideloop.results.experts.comparison import Comparison
from wideloop.results.experts.report import RoleReport
from wideloop.results.records import Cycle

_COMPARISON = "comparison.json"


class ExpertsView(BaseModel):
    """One cycle's experts; ``charts`` by role. ``problem`` says why there is nothing, or not all.

    ``roles`` has an aggregated worker's prefill and decode after the worker itself, where they are known apart.
    """

    notice: str | None
    cycle: Cycle
    roles: list[RoleReport]
    comparison: Comparison | None
    charts: dict[str, dict[str, Any]]
    problem: str = ""


def experts_view(cycle: Cycle, artefacts: Artefacts) -> ExpertsView:
    """Read the documents of ``cycle``; one that another version wrote is left out, and said to be."""
    roles: list[RoleReport] = []
    comparison, problems = None, []
    for uri in artefacts.list("cycles", cycle.cycle_id, "experts"):
        name = uri.rsplit("/", 1)[-1]
        try:
            document = artefacts.read_json(uri)
            if name == _COMPARISON:
                comparison = Comparison.model_validate(document)
            else:
                roles.append(RoleReport.model_validate(document))
        except (ValidationError, ValueError, OSError) as error:
            problems.append(
                f"document {name} cannot be shown: it was written by another version ({type(error).__name__})"
            )
    roles.sort(key=lambda role: role.role != "prefill")
    roles = [shown for role in roles for shown in (role.model_copy(update={"phases": ()}), *role.phases)]
    if not roles and not problems:
        running = "yet" if cycle.state == "running" else "in this run"
        problems.append(f"no expert distribution was recorded {running}; wideep_experts and wideep_cycle record one")
    simulated = cycle.simulated or any(role.simulated for role in roles)
    return ExpertsView(
        notice=SIMULATED if simulated else None,
        cycle=cycle,
        roles=roles,
        comparison=comparison,
        charts={role.role: charts.figures(role, simulated=simulated) for role in roles},
        problem="; ".join(problems),
    )
