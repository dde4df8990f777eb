"""The routes of cycles: the newest one, all of them, one of them; as pages and as JSON.

Plain functions, not coroutines: they read a database, so FastAPI runs them in threads.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from wideloop.results.dashboard.landing import Landing, landing
from wideloop.results.dashboard.rendering import NoCycle, ResultsStore, render
from wideloop.results.dashboard.view import SIMULATED, CycleView, cycle_view, summaries
from wideloop.results.store import Store

pages = APIRouter(default_response_class=HTMLResponse)
api = APIRouter()

#: How many of the newest cycles to list.
Limit = Annotated[int, Query(ge=1, le=100_000)]


@pages.get("/")
def newest(request: Request, store: ResultsStore) -> Response:
    first = landing(store)
    if first is None:
        return render(request, "empty.html", root=".")
    return _cycle_page(request, store, first.cycle.cycle_id, root=".", first=first)


@pages.get("/cycles")
def list_of_cycles(request: Request, store: ResultsStore, limit: Limit = 50) -> Response:
    listed = summaries(store, limit)
    more = 2 * limit if len(listed) == limit else None
    return render(request, "cycles.html" if listed else "empty.html", root=".", summaries=listed, more=more)


@pages.get("/cycles/{cycle_id}")
def one_cycle(request: Request, cycle_id: str, store: ResultsStore) -> Response:
    return _cycle_page(request, store, cycle_id, root="..")


@api.get("/cycles")
def list_as_json(store: ResultsStore, limit: Limit = 50) -> dict[str, Any]:
    listed = summaries(store, limit)
    notice = SIMULATED if any(s.cycle.simulated for s in listed) else None
    return {"notice": notice, "cycles": [s.model_dump(mode="json") for s in listed]}


@api.get("/cycles/{cycle_id}")
def one_as_json(cycle_id: str, store: ResultsStore) -> Response:
    view = _view(store, cycle_id)
    return Response(view.model_dump_json(indent=1), media_type="application/json")


def _view(store: Store, cycle_id: str) -> CycleView:
    view = cycle_view(store, cycle_id)
    if view is None:
        raise NoCycle(cycle_id)
    return view


def _cycle_page(request: Request, store: Store, cycle_id: str, root: str, first: Landing | None = None) -> Response:
    view = _view(store, cycle_id)
    others = store.cycles(30)
    if all(other.cycle_id != cycle_id for other in others):
        others.append(view.cycle)
    return render(request, "cycle.html", root=root, view=view, others=others, landing=first)
