"""The files of a cycle: logs, manifests, metrics pages and raw results, by deployment; as a list and one by one.

A file is shown as text, whatever it holds, so that nothing in a log is ever read as a page or a script.
"""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from wideloop.results.artefacts import Artefacts
from wideloop.results.dashboard.rendering import ArtefactStore, CycleOfPath, ResultsStore, render
from wideloop.results.records import Cycle
from wideloop.results.store import Store

pages = APIRouter(default_response_class=HTMLResponse)
api = APIRouter()

#: Folders of a cycle that have a sub-folder for each deployment.
_BY_DEPLOYMENT = ("deployments", "benchmarks", "recordings")
_TEXT = (".json", ".jsonl", ".log", ".txt", ".yaml", ".csv", ".md", ".prom")


class Group(BaseModel):
    """The files of one deployment, or of none (``deployment`` is empty). ``labels``: what it was measured as."""

    deployment: str
    labels: list[str] = []
    files: list[str] = []


def file_groups(cycle: Cycle, store: Store, artefacts: Artefacts) -> list[Group]:
    """All files of a cycle as names below its folder; those of no deployment come last."""
    labels: dict[str, set[str]] = {}
    for trial in store.trials(cycle_id=cycle.cycle_id):
        labels.setdefault(trial.deployment, set()).add(f"trial {trial.number}")
    for measured in store.measurements(cycle_id=cycle.cycle_id):
        labels.setdefault(measured.deployment, set()).add(measured.label)
    groups: dict[str, Group] = {}
    for uri in artefacts.list("cycles", cycle.cycle_id):
        name = uri.split(f"/cycles/{cycle.cycle_id}/", 1)[1]
        parts = name.split("/")
        deployment = parts[1] if parts[0] in _BY_DEPLOYMENT and len(parts) > 2 else ""
        group = groups.setdefault(deployment, Group(deployment=deployment))
        group.files.append(name)
    for group in groups.values():
        group.labels = sorted(labels.get(group.deployment, ())) if group.deployment else []
    return sorted(groups.values(), key=lambda g: (not g.deployment, g.labels, g.deployment))


@pages.get("/cycles/{cycle_id}/files")
def files(request: Request, cycle: CycleOfPath, store: ResultsStore, artefacts: ArtefactStore) -> Response:
    return render(request, "files.html", root="../..", cycle=cycle, groups=file_groups(cycle, store, artefacts))


@api.get("/cycles/{cycle_id}/files")
def files_as_json(cycle: CycleOfPath, store: ResultsStore, artefacts: ArtefactStore) -> list[Group]:
    return file_groups(cycle, store, artefacts)


@pages.get("/cycles/{cycle_id}/files/{name:path}")
def one_file(cycle: CycleOfPath, name: str, artefacts: ArtefactStore) -> Response:
    """The content of a file; one that is packed is unpacked by the browser."""
    try:
        content = artefacts.read_bytes("cycles", cycle.cycle_id, name)
    except (ValueError, FileNotFoundError, IsADirectoryError):
        raise HTTPException(404, f"cycle {cycle.cycle_id} has no file {name!r}") from None
    if not name.removesuffix(".gz").endswith(_TEXT):
        return Response(content, media_type="application/octet-stream")
    headers = {"Content-Encoding": "gzip"} if name.endswith(".gz") else {}
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)
