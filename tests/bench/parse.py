"""What each DAG file costs to parse. Run as a module, it parses one file and prints what that took."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from wideloop.operators.bootstrap import PROJECT

from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace, environment

LIMIT_S = 2.0
REPEATS = 3


def measure(workspace: Workspace) -> list[Figure]:
    """CPU seconds per DAG file, each in processes of its own; the median of three.

    Raises:
        BenchError: a file does not parse.
    """
    files = sorted((PROJECT / "dags").glob("*.py"))
    imports: list[float] = []
    figures = []
    for file in files:
        workspace.say(f"parsing {file.name}")
        runs = [_parse_in_child(file, workspace.folder) for _ in range(REPEATS)]
        imports += [imported for imported, _ in runs]
        took = [parsed for _, parsed in runs]
        made_of = f"median of {REPEATS} new processes, {min(took):.2f} to {max(took):.2f} s"
        figures.append(Figure(f"parse {file.name}", LIMIT_S, statistics.median(took), "CPU s", made_of))
    base = Figure(
        "import of Airflow itself",
        None,
        statistics.median(imports),
        "CPU s",
        "not in the figures above: Airflow's parser has it imported before it forks for a file",
    )
    return [*sorted(figures, key=lambda f: -f.value), base]


def _parse_in_child(file: Path, folder: Path) -> tuple[float, float]:
    """(CPU seconds to import Airflow, CPU seconds to parse ``file`` then)."""
    env = {**environment(folder), "AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-m", "tests.bench.parse", str(file)]
    done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{file.name} cannot be parsed:\n{(done.stdout + done.stderr)[-2000:]}")
    took = json.loads(done.stdout.splitlines()[-1])
    return float(took["import"]), float(took["parse"])


def _parse(file: str) -> dict[str, float]:
    began = time.process_time()
    import airflow.sdk  # noqa: F401
    from airflow.dag_processing.dagbag import DagBag

    imported = time.process_time()
    bag = DagBag(dag_folder=file, load_op_links=False)
    parsed = time.process_time()
    if bag.import_errors or not bag.dags:
        raise SystemExit("\n".join(bag.import_errors.values()) or f"{file} holds no DAG")
    return {"import": imported - began, "parse": parsed - imported}


if __name__ == "__main__":
    print(json.dumps(_parse(sys.argv[1])))
