"""The project installed as a wheel and editable, beside DAGs of a user who has packages of the same names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from wideloop import __version__
from wideloop.operators.bootstrap import PROJECT

from tests.installation import Installation, build_wheel

#: Folders of this repository whose names users have for packages of their own.
NAMES = ("operators", "tests", "results", "tuning", "manifests", "dags")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installation(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    project = [str(wheel)] if request.param == "wheel" else ["--editable", str(PROJECT)]
    return Installation(tmp_path_factory.mktemp(request.param) / "venv", *project)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A user's DAG bundle."""
    folder = tmp_path / "bundle"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
        (folder / name / "mine.py").write_text(f"OWNER = 'user {name}'\n")
    imports = "\n".join(f"from {name} import mine as {name}_mine" for name in NAMES)
    (folder / "users_dag.py").write_text(f"""
from airflow.sdk import dag, task
{imports}
from wideloop.operators.request import DEFAULTS

@dag(tags=[{", ".join(f"{name}_mine.OWNER" for name in NAMES)}, DEFAULTS["target"]])
def users_dag():
    @task
    def one(): ...
    one()

users_dag()
""")
    return folder


def test_both_sides_import(installation: Installation, bundle: Path, tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.append({str(bundle)!r})  # as Airflow does
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder={str(bundle)!r}, load_op_links=False)
print(bag.import_errors)
print(sorted(bag.dags["users_dag"].tags))
import wideloop.operators, wideloop.results, wideloop.tuning, wideloop.manifests
import operators
print(operators.__file__)
"""
    done = installation.run("-c", program, cwd=tmp_path, AIRFLOW_HOME=str(tmp_path / "airflow"))
    assert done.returncode == 0, done.stderr[-4000:]
    errors, tags, own = done.stdout.splitlines()[-3:]
    assert errors == "{}"
    assert tags == str(sorted(["local", *(f"user {name}" for name in NAMES)]))
    assert own == str(bundle / "operators" / "__init__.py")


def test_none_of_our_folders_is_importable_by_its_bare_name(installation: Installation, tmp_path: Path) -> None:
    program = f"import importlib.util as u; print([n for n in {NAMES} if u.find_spec(n)])"
    assert installation.run("-c", program, cwd=tmp_path).stdout == "[]\n"


def test_the_command_says_its_version(installation: Installation, tmp_path: Path) -> None:
    done = installation.run(str(installation.folder / "bin" / "wideloop"), "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, f"wideloop {__version__}")


def test_a_users_file_that_imports_the_project_passes_mypy(installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "users.py"
    file.write_text("""
from wideloop.manifests.workload import Workload

def tokens(workload: Workload) -> int:
    return workload.isl + workload.osl
""")
    config = tmp_path / "mypy.ini"
    # Neither is what is tested here, and reading both takes 20 s of CPU.
    config.write_text("[mypy]\n[mypy-pydantic.*,pydantic_core.*,numpy.*]\nfollow_imports = skip\n")
    options = ["--strict", "--config-file", str(config), "--python-executable", str(installation.python)]
    command = [sys.executable, "-m", "mypy", *options, str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


def test_the_wheel_holds_one_package_with_all_that_an_airflow_needs_of_it(wheel: Path) -> None:
    files = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    assert {file.parts[0] for file in files} == {"wideloop", f"wideloop-{__version__}.dist-info"}
    inside = {str(file.relative_to("wideloop")) for file in files if file.parts[0] == "wideloop"}
    assert {"__init__.py", "py.typed"} <= inside
    for folder, pattern in (
        ("dags", "*.py"),
        ("manifests/environments", "*.txt"),
        ("manifests/hardware", "*.yaml"),
        ("manifests/images", "*.Dockerfile"),
        ("manifests/models", "**/config.json"),
        ("results/dashboard", "**/*.*"),
        ("results/store/migrations", "**/*.py"),
    ):
        expected = {str(f.relative_to(PROJECT)) for f in (PROJECT / folder).glob(pattern) if f.suffix != ".pyc"}
        assert expected <= inside
    assert not [name for name in inside if name.startswith(("operators/packaging", "tests"))]
