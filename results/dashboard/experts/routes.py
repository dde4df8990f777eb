"""The routes of a cycle's experts, as a page and as JSON."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from wideloop.results.dashboard.experts.view import ExpertsView, experts_view
from wideloop.results.dashboard.rendering import ArtefactStore, CycleOfPath, ResultsStore, render

pages = APIRouter(default_response_class=HTMLResponse)
api = APIRouter()


def _view(cycle: CycleOfPath, store: ResultsStore, artefacts: ArtefactStore) -> ExpertsView:
    cycle_id = cycle.cycle_id
    return experts_view(cycle, store.stages(cycle_id), artefacts, store.recommendation(cycle_id))


@pages.get("/cycles/{cycle_id}/experts")
def experts(request: Request, cycle: CycleOfPath, store: ResultsStore, artefacts: ArtefactStore) -> Response:
    view = _view(cycle, store, artefacts)
    return render(request, "experts.html", root="../..", view=view, cycle=cycle)


@api.get("/cycles/{cycle_id}/experts")
def experts_as_json(cycle: CycleOfPath, store: ResultsStore, artefacts: ArtefactStore) -> dict[str, Any]:
    """The page's content without its charts."""
    view = _view(cycle, store, artefacts)
    return view.model_dump(mode="json", exclude={"charts"})
