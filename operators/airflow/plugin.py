"""The "Wide-EP" entry in Airflow's navigation and the results page behind it.

Airflow loads plugins in every one of its processes. Only the API server serves pages, so the
application is built when it gets its first request.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from wideloop.operators.airflow import stored_paths

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from wideloop.results.store import Store

PREFIX = "/wideep"


class ResultsPage:
    """The results application, built on first use: its imports cost every Airflow process otherwise."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _application()(scope, receive, send)


@functools.cache
def _application() -> ASGIApp:
    from wideloop.operators.airflow.access import guards
    from wideloop.operators.steps.run import artefacts
    from wideloop.results.dashboard.app import create_app

    return create_app(_store, guards(), artefacts)


@functools.cache
def _store() -> Store:
    """One store for the life of the process; a failure to open it is not remembered."""
    from wideloop.operators.settings import settings
    from wideloop.results.store import Store

    return Store.open(settings().results_url)


class WideloopPlugin(AirflowPlugin):
    """Registers the page and the former path of triggers. Found through the entry point ``airflow.plugins``."""

    name = "wideloop"
    fastapi_apps: list[Any] = [{"app": ResultsPage(), "url_prefix": PREFIX, "name": "Wide-EP results"}]
    external_views: list[Any] = [
        {
            "name": "Wide-EP",
            "href": f"{PREFIX[1:]}/",
            "destination": "nav",
            "url_route": "wideep",
            "nav_top_level": True,
            "icon": f"{PREFIX[1:]}/static/icon.svg",
            "icon_dark_mode": f"{PREFIX[1:]}/static/icon-dark.svg",
        }
    ]

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Called by Airflow in every process that loads plugins; the triggerer does before it imports triggers."""
        stored_paths.install()
