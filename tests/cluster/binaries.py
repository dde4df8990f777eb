"""Where the binaries of a control plane are, by the convention of envtest.

Each binary is the one that ``TEST_ASSET_<NAME>`` names (``TEST_ASSET_KUBE_APISERVER``), else the one in the folder
``KUBEBUILDER_ASSETS``, else the one built from ``controlplane/go.mod``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from wideloop.operators.bootstrap import home_folder

from tests.cluster.controlplane import build


class NotHere(Exception):
    """A binary can be neither found nor built; the text says why."""


def find(environ: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Path of each binary of :data:`build.NAMES`; builds what is nowhere (minutes, once).

    Raises:
        NotHere: a variable names a file that is none, or the build is impossible.
    """
    environ = os.environ if environ is None else environ
    found = {name: path for name in build.NAMES if (path := _given(name, environ))}
    missing = [name for name in build.NAMES if name not in found]
    if missing:
        try:
            built = build.build(home_folder())
        except build.CannotBuild as error:
            raise NotHere(f"no {', '.join(missing)}: {error}") from error
        found |= {name: built / name for name in missing}
    return found


def _given(name: str, environ: Mapping[str, str]) -> Path | None:
    variable = f"TEST_ASSET_{name.upper().replace('-', '_')}"
    if variable in environ:
        path = Path(environ[variable])
        if not path.is_file():
            raise NotHere(f"{variable}={path} is no file")
        return path
    assets = environ.get("KUBEBUILDER_ASSETS")
    path = Path(assets or "") / name
    return path if assets and path.is_file() else None
