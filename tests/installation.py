"""Installs this project into fresh environments, as a user does, over the packages that Airflow's lock names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import Settings


def build_wheel(folder: Path) -> Path:
    """The wheel of the working tree."""
    _uv("build", "--quiet", "--wheel", "--out-dir", str(folder), str(PROJECT))
    (wheel,) = folder.glob("*.whl")
    return wheel


class Installation:
    """A fresh environment that holds this project.

    All other packages are those of the environment that runs the tests: they are read from there instead of being
    installed again, which its editable installation of the project is not.

    Args:
        folder: of the environment.
        project: what ``pip install`` is given: a wheel, or ``--editable`` and the project's folder.
    """

    def __init__(self, folder: Path, *project: str) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        _uv("venv", "--quiet", "--no-python-downloads", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--quiet", "--no-deps", "--python", str(self.python), *project)
        (self.site / "zz_packages.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
        self._copy_script("airflow")

    @property
    def site(self) -> Path:
        (found,) = self.folder.glob("lib/python3*/site-packages")
        return found

    @property
    def package(self) -> Path:
        """The folder of ``wideloop`` of a wheel."""
        return self.site / "wideloop"

    def make_environment(self, name: str, home: Path) -> None:
        """Have the wheel make an environment of ``home``, with the uv that is here."""
        (home / "tools").symlink_to(Settings().home / "tools", target_is_directory=True)
        script = str(self.package / "operators" / "bootstrap.py")
        cache = _uv("cache", "dir").strip()
        done = self.run(script, "--only", name, cwd=home, WIDELOOP_HOME=str(home), UV_CACHE_DIR=cache)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments, without anything that this process has on its path."""
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=cwd,
            env=clean(os.environ) | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def _copy_script(self, name: str) -> None:
        """A console script of the packages that are read from elsewhere, for this interpreter."""
        _, body = (Path(sys.executable).parent / name).read_text().split("\n", 1)
        script = self.folder / "bin" / name
        script.write_text(f"#!{self.python}\n{body}")
        script.chmod(0o755)


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would make a child import this clone or use another home."""
    return {k: v for k, v in environment.items() if not k.startswith(("WIDELOOP_", "AIRFLOW_", "PYTHON"))}


def _uv(*arguments: str) -> str:
    """What uv prints."""
    command = [str(Settings().home / "tools" / "bin" / "uv"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
