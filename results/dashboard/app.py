"""The results page as a web application of its own. It knows the store; who may look is the caller's business.

    app = create_app(store=lambda: Store.open(url), guards=[Depends(require_login)])

Every URL in the pages is relative, so the application works under any prefix.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.params import Depends
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from wideloop.manifests.errors import StoreUnavailable
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard import experts, formats
from wideloop.results.dashboard.landing import Landing, landing
from wideloop.results.dashboard.view import SIMULATED, CycleView, cycle_view, summaries
from wideloop.results.store import Store

_HERE = Path(__file__).parent
#: How many of the newest cycles to list.
Limit = Annotated[int, Query(ge=1, le=100_000)]
#: Plotly writes style attributes and draws its PNG export from a blob; nothing comes from elsewhere.
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'self';"
    " base-uri 'none'; form-action 'self'"
)


def create_app(
    store: Callable[[], Store], guards: Sequence[Depends], artefacts: Callable[[], Artefacts] | None = None
) -> FastAPI:
    """The application.

    Args:
        store: gives the store for one request; it is not closed here.
        artefacts: gives the artefact store, for the experts' pages; without it there are none.
        guards: FastAPI dependencies that every route with data carries (the login, in Airflow). Static
            files need none: they hold no data.
    """
    app = FastAPI(title="Wide-EP results", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_pages(store), dependencies=list(guards))
    app.include_router(_api(store), prefix="/api", dependencies=list(guards))
    app.state.experts = artefacts is not None
    if artefacts is not None:
        app.include_router(experts.pages(store, artefacts, _render, _NoCycle), dependencies=list(guards))
        app.include_router(experts.api(store, artefacts, _NoCycle), prefix="/api", dependencies=list(guards))
    app.add_api_route("/static/plotly.min.js", _plotly, methods=["GET"])
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.middleware("http")(_headers)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    app.add_exception_handler(_NoCycle, _not_found)
    return app


class _NoCycle(HTTPException):
    """There is no cycle of that name."""

    def __init__(self, cycle_id: str) -> None:
        super().__init__(404, f"There is no cycle {cycle_id!r} in the results store")


def _pages(store: Callable[[], Store]) -> APIRouter:
    """HTML. Plain functions, not coroutines: they read a database and so belong in threads."""
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/")
    def newest(request: Request) -> Response:
        open_store = store()
        found = landing(open_store)
        if found is None:
            return _render(request, "empty.html", root=".")
        return _cycle_page(request, open_store, found.cycle.cycle_id, root=".", found=found)

    @router.get("/cycles")
    def cycles(request: Request, limit: Limit = 50) -> Response:
        found = summaries(store(), limit)
        more = 2 * limit if len(found) == limit else None
        return _render(request, "cycles.html" if found else "empty.html", root=".", summaries=found, more=more)

    @router.get("/cycles/{cycle_id}")
    def cycle(request: Request, cycle_id: str) -> Response:
        return _cycle_page(request, store(), cycle_id, root="..")

    return router


def _api(store: Callable[[], Store]) -> APIRouter:
    router = APIRouter()

    @router.get("/cycles")
    def cycles(limit: Limit = 50) -> dict[str, Any]:
        found = summaries(store(), limit)
        notice = SIMULATED if any(s.cycle.simulated for s in found) else None
        return {"notice": notice, "cycles": [s.model_dump(mode="json") for s in found]}

    @router.get("/cycles/{cycle_id}")
    def cycle(cycle_id: str) -> Response:
        view = _view(store(), cycle_id)
        return Response(view.model_dump_json(indent=1), media_type="application/json")

    return router


def _view(store: Store, cycle_id: str) -> CycleView:
    view = cycle_view(store, cycle_id)
    if view is None:
        raise _NoCycle(cycle_id)
    return view


def _cycle_page(request: Request, store: Store, cycle_id: str, root: str, found: Landing | None = None) -> Response:
    view = _view(store, cycle_id)
    others = store.cycles(30)
    if all(other.cycle_id != cycle_id for other in others):
        others.append(view.cycle)
    return _render(request, "cycle.html", root=root, view=view, others=others, landing=found)


@functools.cache
def _templates() -> Jinja2Templates:
    templates = Jinja2Templates(directory=_HERE / "templates")
    formats.register(templates.env)
    return templates


def _render(request: Request, template: str, root: str, status: int = 200, **context: Any) -> Response:
    return _templates().TemplateResponse(request, template, {"root": root, **context}, status_code=status)


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
    return _render(request, "problem.html", root=root, status=status, title=title, text=text)
