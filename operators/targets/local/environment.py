"""An "image" on this host: a virtual environment made from the same lock file as the container's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel
from wideloop import manifests
from wideloop.manifests.errors import TargetError
from wideloop.manifests.smoke_test import SCRIPT, versions
from wideloop.operators.bootstrap import PROJECT, READY
from wideloop.operators.settings import Settings, interpreter_setting
from wideloop.operators.targets.base import Image
from wideloop.operators.targets.files import read_as, write_whole
from wideloop.operators.targets.local import installed

_LOCKS = Path(manifests.__file__).parent / "environments"


class VerifiedEnvironment(BaseModel):
    """What ``<environment>.verified.json`` holds: the lock file it passed its smoke test with, and what it found."""

    digest: str
    versions: dict[str, str]


def lock_digest(environment: str) -> str:
    """``sha256:`` and the digest of an environment's lock file: what a container image's digest is elsewhere.

    Raises:
        TargetError: there is no such lock file.
    """
    lock = _LOCKS / f"{environment}.txt"
    if not lock.is_file():
        raise TargetError(
            f"no lock file {lock.name} among {sorted(p.name for p in _LOCKS.glob('*.txt'))}: where the host has its "
            f"own {environment}, set {interpreter_setting(environment)} to the interpreter it is installed in"
        )
    return "sha256:" + hashlib.sha256(lock.read_bytes()).hexdigest()


def environment_python(settings: Settings, environment: str) -> Path:
    """The interpreter of an environment that was built.

    Raises:
        TargetError: it was not, or the interpreter that the settings name is none.
    """
    named = settings.interpreter(environment)
    if named is not None:
        if not named.exists():
            raise TargetError(f"{interpreter_setting(environment)} names {named}, which does not exist")
        return named
    python = settings.environments / environment / "bin" / "python"
    if not python.exists():
        has_lock = (_LOCKS / f"{environment}.txt").is_file()
        own = "" if has_lock else f"; where the host has its own, set {interpreter_setting(environment)}"
        raise TargetError(f"the environment {environment!r} has not been built below {settings.environments}{own}")
    return python


def prepare_environment(settings: Settings, environment: str, imports: tuple[str, ...]) -> Image:
    """Build ``environment`` unless its lock was built before, and import what it must contain.

    Raises:
        TargetError: it has no lock file, could not be built, or lacks one of ``imports``.
    """
    named = settings.interpreter(environment)
    if named is None:
        digest = lock_digest(environment)
    else:
        digest = installed.digest(named, settings.engine_options(environment))
    note = settings.environments / f"{environment}.verified.json"
    note_before = read_as(VerifiedEnvironment, note)
    python = named or settings.environments / environment / "bin" / "python"
    if note_before is not None and note_before.digest == digest and python.exists():
        return Image(digest=digest, versions=note_before.versions, reused=True)
    if named is None and not _is_built(settings, environment, digest):
        _build(settings, environment)
    versions_found = _smoke_test(environment_python(settings, environment), imports)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_whole(note, VerifiedEnvironment(digest=digest, versions=versions_found).model_dump_json())
    return Image(digest=digest, versions=versions_found, reused=False)


def _is_built(settings: Settings, environment: str, digest: str) -> bool:
    """Whether the bootstrap completed it from this lock file: then there is nothing to start one for."""
    try:
        stamp = (settings.environments / environment / READY).read_text()
    except OSError:
        return False
    return f"lock {digest.replace(':', ' ')}" in stamp.splitlines()


def _build(settings: Settings, environment: str) -> None:
    """Let the bootstrap build it: it re-uses a finished build of the same lock."""
    script = PROJECT / "operators" / "bootstrap.py"
    command = [sys.executable, str(script), "--only", environment]
    environ = {**os.environ, "WIDELOOP_HOME": str(settings.home)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetError(f"building the environment {environment!r} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _smoke_test(python: Path, imports: tuple[str, ...]) -> dict[str, str]:
    done = subprocess.run([str(python), "-c", SCRIPT, *imports], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetError(f"the environment at {python.parent.parent} fails its smoke test:\n{done.stderr[-2000:]}")
    return versions(done.stdout)
