"""The run that a step works for, the stores that it writes to, and the timeline of its cycle."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from wideloop.manifests.errors import TargetBusy
from wideloop.operators.request import deployment_name
from wideloop.operators.settings import settings
from wideloop.operators.targets.base import Owner
from wideloop.results.artefacts import Artefacts
from wideloop.results.records import Stage
from wideloop.results.store import Store

log = logging.getLogger(__name__)


class Run(BaseModel):
    """One DAG run, or one of the standalone driver. ``cycle_id``: its own cycle, unless it works for another."""

    model_config = ConfigDict(frozen=True)

    dag_id: str
    run_id: str
    for_cycle: str | None = None

    @property
    def cycle_id(self) -> str:
        digest = hashlib.sha256(f"{self.dag_id}/{self.run_id}".encode()).hexdigest()[:10]
        return self.for_cycle or f"{self.dag_id.removeprefix('wideep_')}-{digest}"

    @property
    def owner(self) -> Owner:
        return Owner(dag_id=self.dag_id, run_id=self.run_id, installation=installation())

    def deployment(self, kind: str) -> str:
        """The name of this run's deployment of one kind: the same for every retry, different in every installation."""
        return deployment_name(kind, f"{installation()}/{self.run_id}")


def installation() -> str:
    """The identity of this installation where several share a target: the results store's own."""
    return _installation(settings().results_url)


@lru_cache
def _installation(results_url: str) -> str:
    with Store.open(results_url) as store:
        return store.identity()


@contextlib.contextmanager
def open_store() -> Iterator[Store]:
    """The results store of this process's settings."""
    with Store.open(settings().results_url) as store:
        yield store


def artefacts() -> Artefacts:
    """The artefact store: on Airflow's ObjectStoragePath, with its connections, where Airflow is installed."""
    return Artefacts(_object_storage()(settings().artefacts_url))


@lru_cache
def _object_storage() -> Callable[[str], Any]:
    """What opens the root of the artefact store: the entry point's function, where what it imports is installed."""
    for entry_point in entry_points(group="wideloop.object_storage"):
        with contextlib.suppress(ImportError):
            return cast("Callable[[str], Any]", entry_point.load())
    from upath import UPath

    return UPath


@contextlib.contextmanager
def stage(run: Run, name: str, *, ends: bool = True, gpus: int = 0) -> Iterator[None]:
    """Put this piece of work on the cycle's timeline under ``name``.

    A stage may consist of several tasks: it begins with the first one that names it and ends, or fails,
    with the one that says ``ends`` (or raises). ``gpus``: how many it holds while it lasts.
    """
    begin_stage(run, name)
    try:
        yield
    except TargetBusy:
        raise  # The task will be retried, so nothing has failed.
    except BaseException as error:
        end_stage(run, name, "failed", str(error) or type(error).__name__, gpus)
        raise
    if ends:
        end_stage(run, name, "success", gpus=gpus)


def begin_stage(run: Run, name: str) -> None:
    """Mark a stage as running; the time when it first began is kept."""
    with open_store() as store:
        begun = next((s for s in store.stages(run.cycle_id) if s.name == name), None)
        began = begun.started_at if begun else datetime.now(UTC)
        store.put(Stage(cycle_id=run.cycle_id, name=name, state="running", started_at=began))


def end_stage(run: Run, name: str, state: str, detail: str = "", gpus: int = 0) -> None:
    """Mark a stage as ended, if it ever began. ``gpus`` were held from its beginning to its end."""
    with open_store() as store:
        begun = next((s for s in store.stages(run.cycle_id) if s.name == name), None)
        if begun is not None:
            now = datetime.now(UTC)
            held = (now - begun.started_at).total_seconds() * gpus if gpus else None
            ended = {"state": state, "detail": detail, "ended_at": now, "gpu_seconds": held}
            store.put(begun.model_copy(update=ended))


def skip_stage(run: Run, name: str, reason: str) -> None:
    """Put a stage that is left out on the timeline, with the reason; a second call changes nothing."""
    log.info("stage %s is skipped: %s", name, reason)
    now = datetime.now(UTC)
    with open_store() as store:
        if not any(s.name == name and s.state == "skipped" for s in store.stages(run.cycle_id)):
            skipped = {"state": "skipped", "detail": reason, "started_at": now, "ended_at": now}
            store.put(Stage(cycle_id=run.cycle_id, name=name, **skipped))
