"""The results page as a web application of its own. It reads the stores; who may look is the caller's business.

    app = create_app(store=lambda: Store.open(url), guards=[Depends(require_login)])

A view is a module with two routers, ``pages`` (HTML) and ``api`` (JSON), listed in :data:`VIEWS` or
:data:`ARTEFACT_VIEWS`. Every URL in the pages is relative, so the application works under any prefix.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.params import Depends
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from wideloop.manifests.errors import StoreUnavailable
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard import cycles, experts, files
from wideloop.results.dashboard.rendering import NoCycle, Sources, render
from wideloop.results.store import Store

_HERE = Path(__file__).parent
#: Plotly writes style attributes and draws its PNG export from a blob; nothing comes from elsewhere.
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'self';"
    " base-uri 'none'; form-action 'self'"
)


class View(Protocol):
    """A module of routes, e.g. :mod:`wideloop.results.dashboard.cycles`."""

    pages: APIRouter
    api: APIRouter


#: Views of the results store, and views that also read the artefact store.
VIEWS: tuple[View, ...] = (cycles,)
ARTEFACT_VIEWS: tuple[View, ...] = (experts, files)


def create_app(
    store: Callable[[], Store], guards: Sequence[Depends], artefacts: Callable[[], Artefacts] | None = None
) -> FastAPI:
    """The application.

    Args:
        store: gives the store for one request; it is not closed here.
        artefacts: gives the artefact store; without it the application has no :data:`ARTEFACT_VIEWS`.
        guards: FastAPI dependencies that every route with data carries (the login, in Airflow). Static
            files need none: they hold no data.
    """
    app = FastAPI(title="Wide-EP results", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.sources = Sources(store, artefacts)
    for view in VIEWS if artefacts is None else VIEWS + ARTEFACT_VIEWS:
        app.include_router(view.pages, dependencies=list(guards))
        app.include_router(view.api, prefix="/api", dependencies=list(guards))
    app.add_api_route("/static/plotly.min.js", _plotly, methods=["GET"])
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.middleware("http")(_headers)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    app.add_exception_handler(NoCycle, _not_found)
    return app


@functools.cache
def _plotly_file() -> Path:
    """plotly.js as its Python package carries it; found without importing the package."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise HTTPException(503, "the chart library is missing: install wideloop[airflow]")
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"


def _plotly() -> Response:
    return FileResponse(
        _plotly_file(), media_type="text/javascript", headers={"Cache-Control": "public, max-age=86400"}
    )


async def _headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


async def _unavailable(request: Request, error: Exception) -> Response:
    return _problem(request, 503, "The results store cannot be used", str(error))


async def _not_found(request: Request, error: Exception) -> Response:
    return _problem(request, 404, "No such cycle", getattr(error, "detail", ""))


def _problem(request: Request, status: int, title: str, text: str) -> Response:
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    if path.startswith("/api/"):
        return JSONResponse({"detail": text}, status_code=status)
    root = "/".join([".."] * (path.count("/") - 1)) or "."
    return render(request, "problem.html", root=root, status=status, title=title, text=text)
