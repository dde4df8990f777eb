"""The experts' routes of the results application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard.experts.view import ExpertsView, experts_view
from wideloop.results.store import Store

#: Draws a template for a request: (request, template, root, context).
Render = Callable[..., Response]


def pages(
    store: Callable[[], Store], artefacts: Callable[[], Artefacts], render: Render, missing: type[Exception]
) -> APIRouter:
    """HTML; ``missing`` is raised, with the name, for a cycle that there is not."""
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/cycles/{cycle_id}/experts")
    def experts(request: Request, cycle_id: str) -> Response:
        view = _view(store(), artefacts(), cycle_id, missing)
        return render(request, "experts.html", root="../..", view=view, cycle=view.cycle)

    return router


def api(store: Callable[[], Store], artefacts: Callable[[], Artefacts], missing: type[Exception]) -> APIRouter:
    """JSON: the same without charts."""
    router = APIRouter()

    @router.get("/cycles/{cycle_id}/experts")
    def experts(cycle_id: str) -> dict[str, Any]:
        return _view(store(), artefacts(), cycle_id, missing).model_dump(mode="json", exclude={"charts"})

    return router


def _view(store: Store, artefacts: Artefacts, cycle_id: str, missing: type[Exception]) -> ExpertsView:
    cycle = store.cycle(cycle_id)
    if cycle is None:
        raise missing(cycle_id)
    return experts_view(cycle, artefacts)
