"""The home folders that measurements run in: empty of state, so that every run does the same work."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from wideloop.manifests.errors import WideloopError
from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import Settings

#: A build that takes longer hangs.
_BUILD_LIMIT_S = 3600.0


class BenchError(WideloopError):
    """Something could not be measured."""


@dataclass(frozen=True)
class Workspace:
    """What a measurement is given.

    Attributes:
        folder: an empty folder to work in, deleted when all went well.
        built: the settings of the home whose environments are used.
        trials: of the demo's sweep, None for the demo's own number.
        fresh: also build the environments from nothing.
        say: tells the person at the terminal what is going on.
        sglang_wheel: a wheel of SGLang, or the folder it was unpacked to, to compare with.
    """

    folder: Path
    built: Settings
    trials: int | None
    fresh: bool
    say: Callable[[str], None]
    sglang_wheel: Path | None = None

    def warm_home(self, name: str) -> Path:
        """A home with environments and without state.

        Each environment is linked by itself: were the folder that holds them a link, then a bootstrap of this
        home, whose key covers the home's path, would replace the environments that it points to.
        """
        home = self.folder / name
        venvs = home / "venvs"
        venvs.mkdir(parents=True)
        for entry in self.built.environments.iterdir():
            if entry.is_symlink():
                (venvs / entry.name).symlink_to(entry.resolve(), target_is_directory=True)
            elif entry.is_file():
                # What says that an environment passed its smoke test.
                shutil.copy(entry, venvs / entry.name)
        (home / "tools").symlink_to(self.built.home / "tools", target_is_directory=True)
        return home

    def fresh_home(self, name: str) -> tuple[Path, float]:
        """A home whose environments were just built, with nothing in any download cache, and the seconds it took.

        Raises:
            BenchError: the bootstrap failed.
        """
        home, cache = self.folder / name, self.folder / "downloads"
        python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        env = {**environment(home), "UV_CACHE_DIR": str(cache), "PIP_NO_CACHE_DIR": "1"}
        began = time.monotonic()
        status = run_to_end([str(python), str(PROJECT / "operators" / "bootstrap.py")], env, _BUILD_LIMIT_S)
        seconds = time.monotonic() - began
        shutil.rmtree(cache, ignore_errors=True)
        if status:
            raise BenchError(f"building the environments failed with status {status}")
        return home, seconds


def run_to_end(argv: Sequence[str], env: Mapping[str, str], limit_s: float, output: IO[bytes] | None = None) -> int:
    """Run a command in a session of its own; its exit status. Whatever happens, nothing of its session is left.

    Args:
        output: file for what it prints, by default where this process prints.

    Raises:
        BenchError: it has not ended after ``limit_s`` seconds.
    """
    errors = subprocess.STDOUT if output else None
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{Path(argv[0]).name} has not ended after {limit_s:.0f} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(home: Path) -> dict[str, str]:
    """This process's environment for a command of another home: no setting of ours or Airflow's is inherited."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WIDELOOP_", "AIRFLOW_"))}
    return {**kept, "WIDELOOP_HOME": str(home)}
