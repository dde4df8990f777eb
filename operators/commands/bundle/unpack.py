"""Unpack a bundle into a virtual environment over the host's own Python packages.

    python3 operators/commands/bundle/unpack.py gpu-host.txz DIR   # then DIR/bin/python runs everything

Uses the standard library only: on a GPU host nothing else is installed yet.
"""

from __future__ import annotations

import configparser
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

#: Console scripts that are called by name.
_SCRIPTS = ("aiperf", "sglang")
_SCRIPT = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


def unpack(bundle: Path, folder: Path) -> Path:
    """Make the environment ``folder`` and return its interpreter; the bundle's packages precede the host's.

    The host's packages are those of the Python that runs this.

    Raises:
        OSError, tarfile.TarError: the bundle cannot be read or the folder not be written.
    """
    host = [p for p in sys.path if p.endswith("site-packages")]
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    _extract(bundle, site)
    bootstrap = runpy.run_path(str(Path(__file__).resolve().parents[2] / "bootstrap.py"))
    if bootstrap["is_clone"]():
        (site / "wideloop.pth").write_text(f"{bootstrap['make_links']()}\n")
    # After the bundle's own packages, so that these take precedence.
    (site / "zz_host.pth").write_text("\n".join(host) + "\n")
    python = folder / "bin" / "python"
    for name in _SCRIPTS:
        _write_script(site, name, python)
    # Compiled here once, on all cores, because five processes start from these files at once. Warnings are off,
    # as they concern the packages' own code.
    compiling = [str(python), "-W", "ignore", "-m", "compileall", "-q", "-j", str(os.cpu_count() or 1), str(site)]
    subprocess.run(compiling, stdout=subprocess.DEVNULL, check=False)
    return python


def _extract(bundle: Path, site: Path) -> None:
    """Unpack with the tar program where there is one: it reads xz in C, several times faster."""
    tar = shutil.which("tar")
    if tar is not None:
        subprocess.run([tar, "-xJf", str(bundle), "-C", str(site)], check=True)
        return
    with tarfile.open(bundle) as archive:
        archive.extractall(site, filter="data")


def _write_script(site: Path, name: str, python: Path) -> None:
    for file in site.glob("*.dist-info/entry_points.txt"):
        points = configparser.ConfigParser(delimiters=("=",))
        points.read(file)
        point = points.get("console_scripts", name, fallback="")
        if point:
            module, _, function = point.partition(":")
            script = python.with_name(name)
            script.write_text(_SCRIPT.format(python=python, module=module, function=function))
            script.chmod(0o755)


if __name__ == "__main__":
    print(unpack(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()))
