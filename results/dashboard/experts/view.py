"""Everything the experts' page shows of a cycle, from the documents that its steps kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard.experts import charts
from wideloop.results.dashboard.view import SIMULATED
from wideloop.results.experts.comparison import Comparison, Proof
from wideloop.results.experts.proofs import DOCUMENT, kept_proofs
from wideloop.results.experts.role_report import RoleReport
from wideloop.results.records import Cycle, Recommendation, Stage

_COMPARISON = "comparison.json"


class ExpertsView(BaseModel):
    """One cycle's experts.

    Attributes:
        roles: an aggregated worker is followed by its prefill and decode, where they were recorded apart.
        proofs: by role, of a cycle that placed experts without comparing; a comparison has its own.
        charts: by role.
        problem: why there is nothing to show, or not everything.
        differences: where the cycle's recommendation has another redundancy than the advice, and why.
    """

    notice: str | None
    cycle: Cycle
    roles: list[RoleReport]
    comparison: Comparison | None
    proofs: dict[str, Proof] = {}
    charts: dict[str, dict[str, Any]]
    problem: str = ""
    differences: list[str] = []


def experts_view(
    cycle: Cycle, stages: Sequence[Stage], artefacts: Artefacts, recommendation: Recommendation | None = None
) -> ExpertsView:
    """Read the documents of ``cycle``; one that another version wrote is left out, which ``problem`` then tells."""
    roles: list[RoleReport] = []
    comparison, problems = None, []
    proofs: dict[str, Proof] = {}
    for uri in artefacts.list("cycles", cycle.cycle_id, "experts"):
        name = uri.rsplit("/", 1)[-1]
        if name == DOCUMENT:
            continue
        try:
            document = artefacts.read_json(uri)
            if name == _COMPARISON:
                comparison = Comparison.model_validate(document)
            else:
                roles.append(RoleReport.model_validate(document))
        except (ValidationError, ValueError, OSError) as error:
            problems.append(_unreadable(name, error))
    try:
        proofs = kept_proofs(artefacts, cycle.cycle_id)
    except (ValidationError, ValueError, OSError) as error:
        problems.append(_unreadable(DOCUMENT, error))
    roles.sort(key=lambda role: role.role != "prefill")
    roles = [shown for role in roles for shown in (role.model_copy(update={"phases": ()}), *role.phases)]
    if not roles and not problems:
        problems.append(_nothing_recorded(cycle, stages))
    simulated = cycle.simulated or any(role.simulated for role in roles)
    return ExpertsView(
        notice=SIMULATED if simulated else None,
        cycle=cycle,
        roles=roles,
        comparison=comparison,
        proofs=proofs,
        charts={role.role: charts.figures(role, simulated=simulated) for role in roles},
        problem="; ".join(problems),
        differences=[d for role in roles if recommendation for d in _differences(role, recommendation)],
    )


def _differences(role: RoleReport, recommendation: Recommendation) -> Iterator[str]:
    """A sentence where the recommended configuration of a role has another redundancy than the advice for it."""
    knobs = recommendation.knobs.get(role.role)
    if role.own is None or role.phase_of is not None or not isinstance(knobs, dict):
        return
    recommended = knobs.get("redundant_experts", 0)
    if recommended == role.own.redundant:
        return
    fraction = knobs.get("mem_fraction_static")
    at = "" if fraction is None else f", at memory fraction {fraction:g}"
    yield (
        f"{role.role}: the run recommends {recommended} redundant experts{at}, the advice here {role.own.text}. The"
        " advice is predicted from the recording at the default's memory fraction; the recommendation was measured"
        " together with the other knobs, and goes before it"
    )


def _nothing_recorded(cycle: Cycle, stages: Sequence[Stage]) -> str:
    skipped = next((s.detail for s in stages if (s.name, s.state) == ("experts", "skipped")), None)
    if skipped is not None:
        return f"no expert distribution was recorded: {skipped}"
    running = "yet" if cycle.state == "running" else "in this run"
    return f"no expert distribution was recorded {running}; wideep_experts and wideep_cycle record one"


def _unreadable(name: str, error: Exception) -> str:
    return f"document {name} cannot be shown: it was written by another version ({type(error).__name__})"
