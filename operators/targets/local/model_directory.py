"""The model cache of this host: a directory with config, tokenizer and (where the engine needs them) weights."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from wideloop.manifests import model_files, profiles
from wideloop.manifests.engine_side.random_model import MARKER as RANDOM_WEIGHTS
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.errors import Refused, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.hub import hub_endpoint, hub_model
from wideloop.manifests.model import ModelSpec
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import Weights
from wideloop.operators.targets.connections import from_connection
from wideloop.operators.targets.files import read_as, write_whole
from wideloop.operators.targets.local.environment import environment_python

#: Characters of a path that a finding shows.
_LONGEST = 300
_DOWNLOAD = "Delete it and download it again"


class VerifiedModel(BaseModel):
    """What is noted of a directory once it was verified: as it was then, and what was found."""

    signature: str
    weights: Weights


def prepare_model_directory(settings: Settings, engine: Engine, model: str) -> Weights:
    """The verified directory of ``model`` (a path, or a profile's name), made or downloaded when missing.

    Raises:
        Refused: a directory was given that is missing or incomplete.
        TargetError: the model could not be made or downloaded.
    """
    given = Path(model)
    if given.is_absolute() or model.startswith("."):
        # Engines run in folders of their own.
        return verify(settings, given.absolute(), needs_weights=engine.needs_weights)
    folder = settings.models / ("weights" if engine.needs_weights else engine.name) / model.replace("/", "--")
    with _one_at_a_time(folder):
        if folder.exists():
            try:
                return verify(settings, folder, needs_weights=engine.needs_weights)
            except Refused:
                # Damaged since it was complete: what is still whole is not downloaded again.
                shutil.rmtree(_partial(folder), ignore_errors=True)
                folder.rename(_partial(folder))
        _provide(settings, engine, model, folder)
        return verify(settings, folder, needs_weights=engine.needs_weights)


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Several DAGs may want the same model at once."""
    lock = folder.with_name(f".{folder.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _provide(settings: Settings, engine: Engine, model: str, folder: Path) -> None:
    """Fill ``folder``; it appears only when complete."""
    partial = _partial(folder)
    python = str(environment_python(settings, engine.environment))
    command = engine.make_model(python, str(profiles.model_config_path(model)), str(partial))
    if command is None:
        from huggingface_hub import snapshot_download

        source, endpoint = hub_model(model), hub_endpoint()
        token = _hub_token(settings)
        try:
            # By its list of files alone: a repository that cannot be served is not downloaded.
            listed = model_files.list_repository(source.repository, source.revision, token=token, endpoint=endpoint)
            # Resumes what an earlier try left in ``partial``.
            snapshot_download(
                source.repository, revision=listed.commit, local_dir=partial, token=token, endpoint=endpoint,
                ignore_patterns=model_files.IGNORED,
            )  # fmt: skip
        except model_files.HubAnswer as answer:
            raise _refusal(source.repository, answer) from answer
        except Exception as error:  # The exception class of its HTTP client differs between versions.
            raise _refusal(source.repository, model_files.hub_answer(source.repository, error)) from error
    else:
        shutil.rmtree(partial, ignore_errors=True)
        environ = {**os.environ, **command.env}
        done = subprocess.run(command.argv, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TargetError(f"making the model directory of {model} failed:\n{done.stderr[-2000:]}")
    partial.rename(folder)


def _refusal(repository: str, answer: model_files.HubAnswer) -> Refused | TargetError:
    """Tried again where that may help; refused where it cannot."""
    if answer.passing:
        return TargetError(f"{answer}. Files that are complete are kept for the next try")
    return Refused([_finding(Path(repository), str(answer), "Give another model, or another token")])


def _hub_token(settings: Settings) -> str | None:
    """The token of the Airflow connection that the settings name; None: the hub client's own (``HF_TOKEN``, a file)."""
    if settings.hf_conn_id is None:
        return None
    return from_connection("huggingface", "WIDELOOP_HF_CONN_ID", settings.hf_conn_id) or None


def verify(settings: Settings, folder: Path, *, needs_weights: bool) -> Weights:
    """Check a model directory: config readable, tokenizer present, every shard of the index there and whole."""
    if not _is_dir(folder):
        raise Refused(
            [_finding(folder, "is no directory on this host", "Give a model's directory or a profile's name")]
        )
    note = _note(settings, folder)
    verified = read_as(VerifiedModel, note)
    signature = _signature(folder, needs_weights)
    if verified is not None and verified.signature == signature:
        return verified.weights.changed(reused=True)
    ModelSpec.from_path(folder)
    drawn = (folder / RANDOM_WEIGHTS).is_file()
    try:
        model_files.check(folder, needs_weights=needs_weights and not drawn)
    except model_files.Incomplete as incomplete:
        suggestion = _DOWNLOAD if incomplete.path.is_file() else "Download the model again"
        raise Refused([_finding(incomplete.path, incomplete.rule, suggestion)]) from incomplete
    files = [p for p in folder.rglob("*") if p.is_file()]
    weights = Weights(
        path=str(folder),
        files=len(files),
        bytes=sum(p.stat().st_size for p in files),
        has_weights=any(p.suffix == ".safetensors" for p in files),
        reused=False,
    )
    note.parent.mkdir(parents=True, exist_ok=True)
    write_whole(note, VerifiedModel(signature=signature, weights=weights).model_dump_json())
    return weights


def _is_dir(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except (OSError, ValueError):  # A name that no file can have.
        return False


def _finding(path: Path, rule: str, suggestion: str) -> Finding:
    return Finding(field="model", value=str(path)[:_LONGEST], rule=rule, suggestion=suggestion)


def _signature(folder: Path, needs_weights: bool) -> str:
    """Changes when any file's name, size or time does; what was verified without its weights is another thing."""
    files = sorted((str(p.relative_to(folder)), p.stat()) for p in folder.rglob("*") if p.is_file())
    return hashlib.sha256(
        repr([needs_weights, *((n, s.st_size, s.st_mtime_ns) for n, s in files)]).encode()
    ).hexdigest()


def _note(settings: Settings, folder: Path) -> Path:
    return settings.models / ".verified" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json"
