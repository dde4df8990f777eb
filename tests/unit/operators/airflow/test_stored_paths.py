"""Triggers that Airflow's database names by the module path of before ``wideloop.*``, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: What Airflow's triggerer does before it runs a trigger: its listeners load the plugins, then it imports the path.
LOAD = """
import sys
from airflow.plugins_manager import ensure_plugins_loaded
from airflow._shared.module_loading import import_string
PATH = "operators.waiting.TargetTrigger"
"""


def run(script: str, folder: Path, *bundle: Path, loaded: bool = True) -> list[str]:
    """What the script prints; ``bundle``: folders at the end of ``sys.path``, where Airflow puts DAG bundles."""
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "WIDELOOP_HOME": str(folder / "wideloop"),
    }
    appended = f"import sys; sys.path += {[str(path) for path in bundle]}"
    argv = [sys.executable, "-c", f"{appended}\n{LOAD}\n{'ensure_plugins_loaded()' if loaded else ''}\n{script}"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def package(folder: Path, **modules: str) -> Path:
    """A DAG bundle with a package ``operators`` that has these modules."""
    (folder / "operators").mkdir(parents=True)
    (folder / "operators" / "__init__.py").write_text("OWNER = 'user'\n")
    for name, text in modules.items():
        (folder / "operators" / f"{name}.py").write_text(text)
    return folder


def test_a_stored_trigger_is_found_and_no_name_is_left_behind(tmp_path: Path) -> None:
    script = """
trigger = import_string(PATH)("local", "one")
print(trigger.serialize()[0])
print([name for name in sys.modules if name.split(".")[0] == "operators"])
print(import_string(PATH) is type(trigger))
"""
    path, left, again = run(script, tmp_path)
    assert path.startswith("wideloop.operators.airflow.") and path.endswith(".TargetTrigger")
    assert (left, again) == ("[]", "True")


@pytest.mark.parametrize("statement", ["import operators", "import operators.other", "from operators import waiting"])
def test_nothing_else_of_that_name_can_be_imported(statement: str, tmp_path: Path) -> None:
    script = f"""
try:
    {statement}
except ModuleNotFoundError as error:
    print(error)
"""
    assert run(script, tmp_path)[0].startswith("No module named 'operators'")


def test_a_package_of_the_users_own_is_the_one_that_is_imported(tmp_path: Path) -> None:
    script = """
trigger = import_string(PATH)
import operators
from operators import mine
print(operators.OWNER, mine.OWNER, trigger.__module__.split(".")[0])
print(hasattr(operators, "waiting"), "operators.waiting" in sys.modules)
"""
    bundle = package(tmp_path / "dags", mine="OWNER = 'user'\n")
    assert run(script, tmp_path, bundle) == ["user user wideloop", "False False"]


def test_a_module_of_the_users_own_with_the_same_path_wins(tmp_path: Path) -> None:
    bundle = package(tmp_path / "dags", waiting="class TargetTrigger:\n    owner = 'user'\n")
    assert run("print(import_string(PATH).owner)", tmp_path, bundle) == ["user"]


def test_a_triggerer_has_loaded_plugins_before_it_forks_the_process_that_imports_triggers(tmp_path: Path) -> None:
    """``airflow triggerer`` begins with ``Job(...)``, whose listeners are plugins."""
    script = """
from airflow.jobs.job import Job
from airflow.jobs.triggerer_job_runner import TriggererJobRunner, TriggerRunner
TriggererJobRunner(Job(heartrate=1), capacity=1)
print(TriggerRunner().get_trigger_by_classpath(PATH).__name__)
"""
    assert run(script, tmp_path, loaded=False) == ["TargetTrigger"]
