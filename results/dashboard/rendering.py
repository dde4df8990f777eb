"""What every view of the results application shares: the stores of a request, templates, and a cycle by its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.templating import Jinja2Templates
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard import formats
from wideloop.results.records import Cycle
from wideloop.results.store import Store


@dataclass(frozen=True)
class Sources:
    """Where the views read. Each is called once per request, and what it gives is not closed."""

    store: Callable[[], Store]
    artefacts: Callable[[], Artefacts] | None


class NoCycle(HTTPException):
    """The results store has no cycle of that name."""

    def __init__(self, cycle_id: str) -> None:
        super().__init__(404, f"There is no cycle {cycle_id!r} in the results store")


def _sources(request: Request) -> Sources:
    sources: Sources = request.app.state.sources
    return sources


def _store(sources: Annotated[Sources, Depends(_sources)]) -> Store:
    return sources.store()


def _artefacts(sources: Annotated[Sources, Depends(_sources)]) -> Artefacts:
    assert sources.artefacts is not None  # A view that needs them is not included without them.
    return sources.artefacts()


#: Parameters of a route: FastAPI fills them in.
ResultsStore = Annotated[Store, Depends(_store)]
ArtefactStore = Annotated[Artefacts, Depends(_artefacts)]


def _cycle(cycle_id: str, store: ResultsStore) -> Cycle:
    cycle = store.cycle(cycle_id)
    if cycle is None:
        raise NoCycle(cycle_id)
    return cycle


#: The cycle that the path's ``{cycle_id}`` names; 404 when the store has none of that name.
CycleOfPath = Annotated[Cycle, Depends(_cycle)]


@functools.cache
def _templates() -> Jinja2Templates:
    templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
    formats.register(templates.env)
    return templates


def render(request: Request, template: str, root: str, status: int = 200, **context: Any) -> Response:
    """The page of ``template``; ``root`` is the relative path from the page's URL to the application's."""
    return _templates().TemplateResponse(request, template, {"root": root, **context}, status_code=status)
