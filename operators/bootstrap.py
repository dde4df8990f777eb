#!/usr/bin/env python3
"""Make the environments the project runs in: ``python3 operators/bootstrap.py``.

Runs before anything is installed, so it uses the standard library only and is written so that an
old Python can read far enough to say that it is too old. It makes, below the home folder
(``$WIDELOOP_HOME``, by default ``.wideloop`` in a clone and ``~/.wideloop`` for an installed wheel):

    tools/            uv, which installs everything else
    venvs/<name>      link to the environment <name>, there only when it is complete
    venvs/<name>-<key>  the environment itself; the key covers lock file, Python and place
    installed/        of an installed wheel: the link by which other environments import it

Environments that must not mix are separate: Airflow with this project, the simulated engine, the
benchmark client. Each comes from its lock file in ``manifests/environments``, which the wheel contains too.
A wheel lies in an environment with Airflow already, so only the other two are made for it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWEST = (3, 13)  # aiperf 0.13.0 declares Requires-Python < 3.14
UV = "uv==0.13.9"
GB = 1000**3
TOOLS_GB = 0.1
RUN_GB = 1.0  # Airflow's database, its logs, recordings and the load generator's files of many cycles
#: The clone's folders as sub-packages of ``wideloop``, below this folder of links (pyproject.toml names both too).
LINKS = ".links"
PACKAGES = ("operators", "tuning", "manifests", "results", "dags")
ROOT_FILES = {"__init__.py": "root.py", "py.typed": "py.typed"}
READY = "wideloop-ready"
PROJECT_STAMP = "wideloop-project"
#: Of an installed wheel, in the home: the folder on the ``sys.path`` of environments that import the wheel.
INSTALLED = "installed"


@dataclass(frozen=True)
class Environment:
    """One environment: its name, its size on disk in GB (measured), whether the project is in it.

    One of which little is ever imported is not ``compiled`` when it is built.
    """

    name: str
    gb: float
    with_project: bool
    compiled: bool = True

    @property
    def lock(self) -> Path:
        return PROJECT / "manifests" / "environments" / (self.name + ".txt")


ENVIRONMENTS = (
    Environment("airflow", 5.2, with_project=True),
    Environment("simulated", 0.5, with_project=True),
    Environment("benchmark", 1.0, with_project=False),
)
#: For tests only: SGLang's wheels, whose argument parsers run on any machine with the torch of "airflow".
TEST_ENVIRONMENTS = (
    Environment("sglang-parser-0.5.17", 0.09, with_project=False, compiled=False),
    Environment("sglang-parser-0.5.21", 0.2, with_project=False, compiled=False),
    Environment("sglang-parser-0.5.23", 0.14, with_project=False, compiled=False),
)


def needed() -> tuple[Environment, ...]:
    """What a run needs: in an installed wheel, Airflow's environment is the one that the wheel lies in."""
    return ENVIRONMENTS if is_clone() else tuple(e for e in ENVIRONMENTS if e.name != "airflow")


class SetupError(Exception):
    """The environments cannot be made; the text is one line for the user."""


def is_clone() -> bool:
    """Whether this file lies in a clone: a copy in site-packages has neither metadata nor DAGs beside it."""
    return (PROJECT / "pyproject.toml").is_file()


def make_links() -> Path:
    """The folder from which a clone is imported as ``wideloop``; its links are renewed.

    The folders of the clone stay where they are, and none of them becomes importable under its bare name.
    """
    folder = PROJECT / LINKS
    package = folder / "wideloop"
    package.mkdir(parents=True, exist_ok=True)
    links = {name: Path("..", "..", name) for name in PACKAGES}
    links |= {name: Path("..", "..", "operators", "packaging", source) for name, source in ROOT_FILES.items()}
    for link in package.iterdir():
        if link.is_symlink() and link.name not in links:
            link.unlink()
    for name, source in links.items():
        link = package / name
        if not (link.is_symlink() and link.readlink() == source):
            beside = package / f".{name}.{os.getpid()}"
            beside.symlink_to(source)
            beside.replace(link)
    return folder


def link_installed(home: Path) -> Path:
    """The folder from which other environments import an installed wheel; its one link is renewed.

    The wheel's own site-packages would bring Airflow and everything else along.
    """
    folder = home / INSTALLED
    folder.mkdir(parents=True, exist_ok=True)
    switch_link(folder / "wideloop", PROJECT)
    return folder


def default_home() -> Path:
    """In the clone; for an installed wheel the user's home, as the next installation replaces site-packages."""
    return PROJECT / ".wideloop" if is_clone() else Path.home() / ".wideloop"


def home_folder() -> Path:
    return Path(os.environ.get("WIDELOOP_HOME") or default_home()).resolve()


def demo_command(**options: object) -> str:
    """What starts the demo: ``make demo PORT=8081`` in a clone, ``wideloop demo --port 8081`` of an installed wheel."""
    if is_clone():
        return " ".join(["make demo", *(f"{name}={value}" for name, value in options.items())])
    return " ".join(["wideloop demo", *(f"--{name.lower()} {value}" for name, value in options.items())])


def say(text: str) -> None:
    print("wideloop: " + text, flush=True)


def check_python(version: tuple[int, ...]) -> None:
    """Refuse a Python the locked packages do not support, naming a better one when there is one."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return
    names = ["python%d.%d" % (OLDEST[0], minor) for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]  # noqa: UP031
    supported = [name for name in names if runs(name)]
    wanted = "%d.%d to %d.%d" % (OLDEST + NEWEST)  # noqa: UP031
    hint = (
        f"run: PYTHON={supported[0]} make demo" if supported else "install one, then run: PYTHON=python3.12 make demo"
    )
    raise SetupError(f"Python {'.'.join(map(str, version[:3]))} is not supported, {wanted} is; {hint}")


def runs(command: str) -> bool:
    """Whether ``command`` is a Python that starts (a version manager's shim may be there and not start)."""
    path = shutil.which(command)
    if path is None:
        return False
    done = subprocess.run([path, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def check_system(system: str) -> None:
    if system != "Linux":
        raise SetupError(
            f"{system} is not supported: the engines run on Linux; use a Linux machine, WSL 2 or a container"
        )


def keep_downloads_beside(home: Path) -> None:
    """uv links files from its cache; across file systems it would copy, and all would be there twice."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if nearest(cache).stat().st_dev != nearest(home).stat().st_dev:
        os.environ.setdefault("UV_CACHE_DIR", str(home / "cache"))


def nearest(folder: Path) -> Path:
    """``folder`` or the nearest folder above it that exists."""
    return next(p for p in [folder, *folder.parents] if p.exists())


def disk_needed_gb(missing: list[Environment]) -> float:
    """GB for building ``missing`` and for a run after that, so that a completed installation can also run."""
    return RUN_GB + (sum(e.gb for e in missing) + TOOLS_GB if missing else 0)


def check_disk(folder: Path, gb: float) -> None:
    """Refuse when less than ``gb`` GB are free where ``folder`` is or will be."""
    free = shutil.disk_usage(nearest(folder)).free / GB
    if free < gb:
        raise SetupError(
            f"too little disk: {gb:.1f} GB are needed in {folder}, {free:.1f} GB are free; "
            f"free some, or choose another place: WIDELOOP_HOME=/path {demo_command()}"
        )


def key_of(environment: Environment, home: Path) -> str:
    """What an environment is made from: lock file, Python, and the home, as its scripts hold absolute paths."""
    if not environment.lock.exists():
        raise SetupError(f"the lock file {environment.lock.relative_to(PROJECT)} is missing in {PROJECT}")
    digest = hashlib.sha256(environment.lock.read_bytes()).hexdigest()
    return f"lock sha256 {digest}\npython {platform.python_version()}\nhome {home}\n"


def folder_of(environment: Environment, home: Path) -> Path:
    short = hashlib.sha256(key_of(environment, home).encode()).hexdigest()[:12]
    return home / "venvs" / (environment.name + "-" + short)


def is_ready(environment: Environment, home: Path) -> bool:
    """Complete, made from today's lock file, and linked under its name."""
    folder = folder_of(environment, home)
    link = home / "venvs" / environment.name
    stamp = folder / READY
    return stamp.exists() and stamp.read_text() == key_of(environment, home) and link.resolve() == folder.resolve()


def run(command: list[str], purpose: str) -> None:
    """Run ``command``; its output is shown only when it fails."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            watch(process)
        finally:
            process.terminate()
            process.wait()
        if process.returncode != 0:
            output.seek(0)
            sys.stderr.write(output.read())
            status = f"exit status {process.returncode}"
            raise SetupError(f"{purpose} failed ({status}, see above); what was downloaded is kept: try again")


def watch(process: subprocess.Popen[bytes]) -> None:
    """Wait for ``process``; on a terminal, show the seconds and the GB written so far."""
    home = nearest(home_folder())
    began, free = time.monotonic(), shutil.disk_usage(home).free
    while True:
        try:
            process.wait(1)
            break
        except subprocess.TimeoutExpired:
            if sys.stdout.isatty():
                written = max(0, free - shutil.disk_usage(home).free) / GB
                sys.stdout.write(f"\r\033[K  {time.monotonic() - began:.0f} s, {written:.1f} GB")
                sys.stdout.flush()
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K")


def install_uv(home: Path) -> Path:
    """The path of uv, installed by whichever of venv and pip this Python has."""
    tools = home / "tools"
    uv = tools / "bin" / "uv"
    stamp = tools / READY
    if uv.exists() and stamp.exists() and stamp.read_text() == UV:
        return uv
    say(f"installing {UV}")
    shutil.rmtree(tools, ignore_errors=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if succeeds("-m", "ensurepip", "--version"):
        run([sys.executable, "-m", "venv", str(tools)], "making the folder for tools")
        run([str(tools / "bin" / "python"), *pip, UV], "installing uv")
    elif succeeds("-m", "pip", "--version"):
        run([sys.executable, *pip, "--target", str(tools), UV], "installing uv")
    else:
        install_venv_module()
        return install_uv(home)
    stamp.write_text(UV)
    return uv


def succeeds(*arguments: str) -> bool:
    done = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def install_venv_module() -> None:
    """Install venv, which Debian ships apart from Python, when running as root; else name the command to run."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"this Python has neither venv nor pip; run: sudo apt-get install {package}")
    say(f"installing {package} by apt-get")
    apt_get = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    run([*apt_get, "update", "-qq"], "apt-get update")
    run([*apt_get, "install", "-y", "-qq", package], f"apt-get install {package}")
    if not succeeds("-m", "ensurepip", "--version"):
        raise SetupError(
            f"this Python still has no venv after apt-get install {package}; use another: PYTHON=python3.12"
        )


def build(environment: Environment, home: Path, uv: Path) -> None:
    """Build in a new folder; the stamp and then the link are made last, so an incomplete build is never used."""
    started = time.monotonic()
    folder = folder_of(environment, home)
    say(f"environment {environment.name}: installing, about {environment.gb} GB")
    shutil.rmtree(folder, ignore_errors=True)
    purpose = f"installing environment {environment.name}"
    run([str(uv), "venv", "--quiet", "--no-python-downloads", "--python", sys.executable, str(folder)], purpose)
    # The lock is complete, so nothing is resolved again; compiled once here, as each start would compile.
    compiled = ["--compile-bytecode"] if environment.compiled else []
    run([*pip_install(uv, folder), *compiled, "--requirements", str(environment.lock)], purpose)
    (folder / READY).write_text(key_of(environment, home))
    switch_link(home / "venvs" / environment.name, folder)
    for old in (home / "venvs").glob(environment.name + "-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    say(f"environment {environment.name}: ready after {time.monotonic() - started:.0f} s")


def pip_install(uv: Path, folder: Path) -> list[str]:
    return [str(uv), "pip", "install", "--quiet", "--no-deps", "--python", str(folder / "bin" / "python")]


def switch_link(link: Path, folder: Path) -> None:
    """Point ``link`` at ``folder`` in one step; at a sibling by its name, so that both can be moved."""
    beside = link.with_name(link.name + ".new")
    if beside.is_symlink():
        beside.unlink()
    beside.symlink_to(folder.name if folder.parent == link.parent else folder, target_is_directory=True)
    beside.replace(link)


def install_project(environment: Environment, home: Path, uv: Path) -> None:
    """Make the project importable in an environment: again only when its metadata or its place changed.

    A clone is installed editable. An installed wheel is imported by a .pth file.
    """
    folder = folder_of(environment, home)
    stamp = folder / PROJECT_STAMP
    metadata = hashlib.sha256((PROJECT / "pyproject.toml").read_bytes()).hexdigest() if is_clone() else "installed"
    key = f"{PROJECT}\n{metadata}\n"
    if stamp.exists() and stamp.read_text() == key:
        return
    if is_clone():
        purpose = f"installing the project into environment {environment.name}"
        run([*pip_install(uv, folder), "--editable", str(PROJECT)], purpose)
    else:
        site = folder / "lib" / ("python%d.%d" % sys.version_info[:2]) / "site-packages"  # noqa: UP031
        (site / "wideloop.pth").write_text(f"{home / INSTALLED}\n")
    stamp.write_text(key)


def make_importable(home: Path) -> None:
    """Renew the links by which environments import this copy."""
    if is_clone():
        make_links()
    else:
        link_installed(home)


def make(environments: list[Environment], home: Path) -> None:
    """Bring every one of ``environments`` to ready; one bootstrap at a time per home."""
    home.mkdir(parents=True, exist_ok=True)
    make_importable(home)
    with (home / "bootstrap.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another bootstrap is running in this home; waiting for it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [e for e in environments if not is_ready(e, home)]
        if missing:
            check_disk(home, disk_needed_gb(missing))
            keep_downloads_beside(home)
        uv = install_uv(home)
        for environment in environments:
            if environment in missing:
                build(environment, home, uv)
            if environment.with_project:
                install_project(environment, home, uv)


def report(environments: list[Environment], home: Path) -> int:
    """Print which environments are ready; 0 when all are."""
    missing = [e.name for e in environments if not is_ready(e, home)]
    for environment in environments:
        say(f"environment {environment.name}: {'missing' if environment.name in missing else 'ready'}")
    return 1 if missing else 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make the environments wideloop runs in.")
    parser.add_argument(
        "--check", action="store_true", help="only print what is ready; exit status 1 when something is not"
    )
    every = ENVIRONMENTS + TEST_ENVIRONMENTS
    parser.add_argument("--only", action="append", choices=[e.name for e in every], help="only this environment")
    parser.add_argument("--tests", action="store_true", help="those that only tests need, too")
    options = parser.parse_args(arguments)
    home = home_folder()
    usual = every if options.tests else needed()
    chosen = [e for e in every if e.name in options.only] if options.only else [*usual]
    try:
        check_python(sys.version_info[:3])
        check_system(platform.system())
        if options.check:
            return report(chosen, home)
        make(chosen, home)
    except SetupError as stop:
        print(f"wideloop: {stop}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("wideloop: interrupted; incomplete environments are not used, run it again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
