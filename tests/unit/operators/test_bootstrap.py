"""The bootstrap with a stand-in for uv: what it refuses, what it re-uses, what an interruption leaves."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from wideloop.operators import bootstrap
from wideloop.operators.bootstrap import PROJECT, Environment, SetupError
from wideloop.operators.commands.demo import checks

AIRFLOW = Environment("airflow", 0.001, with_project=True)

FAKE_UV = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
    *--requirements*) test ! -e {broken} || exit 3 ;;
esac
for last; do :; done
test "$1" != venv || mkdir -p "$last/bin"
"""


class World:
    """A project and a home in a folder, and the calls uv got."""

    def __init__(self, root: Path) -> None:
        self.project = root / "project"
        self.home = root / "home"
        self.log = root / "uv.log"
        self.broken = root / "broken"
        self.lock = self.project / "manifests" / "environments" / "airflow.txt"
        self.lock.parent.mkdir(parents=True)
        self.lock.write_text("one==1\n")
        (self.project / "pyproject.toml").write_text("[project]\n")
        uv = self.home / "tools" / "bin" / "uv"
        uv.parent.mkdir(parents=True)
        uv.write_text(FAKE_UV.format(log=self.log, broken=self.broken))
        uv.chmod(0o755)
        (self.home / "tools" / bootstrap.READY).write_text(bootstrap.UV)

    def make(self) -> list[str]:
        """Run the bootstrap; the first words of uv's calls."""
        self.log.write_text("")
        bootstrap.make([AIRFLOW], self.home)
        return [" ".join(line.split()[:2]) for line in self.log.read_text().splitlines()]

    @property
    def ready(self) -> bool:
        return bootstrap.is_ready(AIRFLOW, self.home)

    @property
    def link(self) -> Path:
        return self.home / "venvs" / "airflow"

    @property
    def folders(self) -> list[Path]:
        return list((self.home / "venvs").glob("airflow-*"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.setattr(bootstrap, "PROJECT", world.project)
    return world


def test_a_first_run_builds_and_a_second_calls_nothing(world: World) -> None:
    assert world.make() == ["venv --quiet", "pip install", "pip install"]
    assert world.ready
    assert world.link.resolve() == world.folders[0]
    assert world.make() == []


def test_what_is_hardly_imported_is_not_compiled(world: World) -> None:
    bootstrap.make([Environment("airflow", 0.001, with_project=False, compiled=False)], world.home)
    assert "--compile-bytecode" not in world.log.read_text()
    assert "--requirements" in world.log.read_text()


def test_a_demo_builds_nothing_that_only_tests_need() -> None:
    needed = {e.name for e in bootstrap.ENVIRONMENTS}
    assert needed == {"airflow", "simulated", "benchmark"}
    for environment in bootstrap.TEST_ENVIRONMENTS:
        packages = [line for line in environment.lock.read_text().splitlines() if not line.startswith("#")]
        assert packages and all(line.startswith("sglang") for line in packages)


def test_a_changed_lock_file_builds_again_and_removes_the_old(world: World) -> None:
    world.make()
    old = world.link.resolve()
    world.lock.write_text("one==2\n")
    assert not world.ready
    assert world.make() == ["venv --quiet", "pip install", "pip install"]
    assert world.link.resolve() != old
    assert not old.exists()


def test_changed_project_metadata_installs_only_the_project_again(world: World) -> None:
    world.make()
    (world.project / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert world.make() == ["pip install"]


def test_an_interrupted_build_is_not_taken_for_ready(world: World) -> None:
    world.broken.touch()
    with pytest.raises(SetupError, match=r"exit status 3.*try again"):
        world.make()
    assert world.folders, "the half-made folder is there"
    assert not world.ready
    assert not world.link.exists()
    world.broken.unlink()
    world.make()
    assert world.ready


def test_an_interrupted_rebuild_leaves_the_old_environment_in_place(world: World) -> None:
    world.make()
    old = world.link.resolve()
    world.lock.write_text("one==2\n")
    world.broken.touch()
    with pytest.raises(SetupError):
        world.make()
    assert world.link.resolve() == old
    assert (old / bootstrap.READY).exists()


def test_an_environment_copied_elsewhere_is_not_taken_for_ready(world: World, tmp_path: Path) -> None:
    world.make()
    shutil.copytree(world.home, tmp_path / "copy", symlinks=True)
    assert not bootstrap.is_ready(AIRFLOW, tmp_path / "copy")


def test_check_only_reports(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WIDELOOP_HOME", str(world.home))
    assert bootstrap.main(["--check", "--only", "airflow"]) == 1
    assert capsys.readouterr().out == "wideloop: environment airflow: missing\n"
    assert not world.log.exists()


def test_too_little_disk_names_need_place_and_way_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(world.home)._replace(free=1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SetupError) as refused:
        bootstrap.check_disk(world.home / "not" / "yet", 6.3)
    text = str(refused.value)
    assert "6.3 GB" in text
    assert str(world.home) in text
    assert "WIDELOOP_HOME=" in text
    assert "\n" not in text


def test_who_has_room_to_install_has_room_to_run_and_the_readme_says_how_much() -> None:
    whole = bootstrap.disk_needed_gb([*bootstrap.ENVIRONMENTS])
    installed = sum(e.gb for e in bootstrap.ENVIRONMENTS) + bootstrap.TOOLS_GB
    assert whole - installed == pytest.approx(bootstrap.disk_needed_gb([]))
    said = re.search(r"(\d+) GB of free disk and ([\d.]+) GB of free memory", (PROJECT / "README.md").read_text())
    assert said is not None
    assert whole <= int(said[1]) < whole + 1
    assert float(said[2]) == checks.MEMORY_GB


def test_the_disk_for_a_run_is_asked_for_before_anything_is_installed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(world.home)._replace(free=int((AIRFLOW.gb + bootstrap.TOOLS_GB + 0.9) * bootstrap.GB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SetupError, match="too little disk"):
        world.make()
    assert world.folders == []


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 13, 1)])
def test_supported_pythons(version: tuple[int, ...]) -> None:
    bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 7, 16), (3, 10, 13), (3, 14, 0)])
def test_an_unsupported_python_is_told_in_one_line_which_other_to_use(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "runs", lambda name: name == "python3.12")
    with pytest.raises(SetupError, match=r"3\.11 to 3\.13 is; run: PYTHON=python3\.12 make demo$"):
        bootstrap.check_python(version)
    monkeypatch.setattr(bootstrap, "runs", lambda name: False)
    with pytest.raises(SetupError, match="install one"):
        bootstrap.check_python(version)


def test_an_old_python_can_read_the_file() -> None:
    ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 7))


def test_a_shim_that_does_not_start_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not bootstrap.runs("python3.12")
    shim.write_text("#!/bin/sh\nexit 0\n")
    assert bootstrap.runs("python3.12")


def test_another_system_is_refused() -> None:
    bootstrap.check_system("Linux")
    with pytest.raises(SetupError, match="Darwin is not supported"):
        bootstrap.check_system("Darwin")


def test_without_venv_pip_and_root_it_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(world.home / "tools")
    monkeypatch.setattr(bootstrap, "succeeds", lambda *_: False)
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match=r"run: sudo apt-get install python3\.\d+-venv"):
        world.make()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """What an installation without a clone leaves: packages in site-packages, and nothing beside them."""
    packages = tmp_path / "site-packages" / "wideloop"
    for name in bootstrap.PACKAGES:
        shutil.copytree(bootstrap.PROJECT / name, packages / name)
    shutil.copy(packages / "operators" / "packaging" / "root.py", packages / "__init__.py")
    return packages


def test_an_installed_wheel_needs_every_environment_but_the_one_it_lies_in(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(installed / "operators" / "bootstrap.py"), "--check"]
    environ = {**os.environ, "HOME": str(tmp_path / "me")}
    environ.pop("WIDELOOP_HOME", None)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    missing = ["simulated", "benchmark"]
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [f"wideloop: environment {name}: missing" for name in missing]


def test_an_environment_imports_an_installed_wheel_and_nothing_that_lies_beside_it(
    installed: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        world.project / "manifests" / "environments", installed / "manifests" / "environments", dirs_exist_ok=True
    )
    monkeypatch.setattr(bootstrap, "PROJECT", installed)
    (installed.parent / "beside.py").touch()
    site = bootstrap.folder_of(AIRFLOW, world.home) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    monkeypatch.setattr(bootstrap, "build", lambda *_: site.mkdir(parents=True))
    world.log.write_text("")
    bootstrap.make([AIRFLOW], world.home)
    assert world.log.read_text() == ""
    (path,) = (site / "wideloop.pth").read_text().splitlines()
    program = "import importlib.util as u; print(u.find_spec('wideloop').origin, u.find_spec('beside'))"
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    origin, beside = done.stdout.split()
    assert Path(origin).resolve() == installed / "__init__.py"
    assert beside == "None"


def test_a_wheel_that_was_installed_again_elsewhere_is_imported_from_there(
    installed: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (installed, tmp_path / "other" / "wideloop"):
        monkeypatch.setattr(bootstrap, "PROJECT", place)
        assert (bootstrap.link_installed(world.home) / "wideloop").readlink() == place


@pytest.mark.parametrize(("clone", "command"), [(True, "make demo PORT=8081"), (False, "wideloop demo --port 8081")])
def test_the_command_that_an_error_suggests_is_that_of_this_copy(world: World, clone: bool, command: str) -> None:
    if not clone:
        (world.project / "pyproject.toml").unlink()
    assert bootstrap.demo_command(PORT=8081) == command


def test_the_state_of_a_copy_without_its_clone_is_not_in_site_packages(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from wideloop.operators.settings import settings; print(settings().home)"]
    environ = {**os.environ, "HOME": str(tmp_path / "me"), "PYTHONPATH": str(installed.parent)}
    environ.pop("WIDELOOP_HOME", None)
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "me" / ".wideloop"


def test_a_missing_lock_file_is_named(world: World) -> None:
    world.lock.unlink()
    with pytest.raises(SetupError, match=r"manifests/environments/airflow\.txt is missing"):
        world.make()
