"""What one ``ask`` of the study costs. Run as a module, it asks a few times and prints what each took."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from wideloop.operators.bootstrap import PROJECT

from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace, environment

#: Finished trials when the first point is asked for, of a long sweep.
BEFORE = 60
ASKS = 4
ASK_S = 1.0


def measure(workspace: Workspace) -> list[Figure]:
    """CPU seconds of asking for a point in a new process, as every trial run does, and of asking again.

    Raises:
        BenchError: the study could not be used.
    """
    workspace.say("asking the study for points")
    url = f"sqlite:///{workspace.folder / 'ask.db'}"
    command = [sys.executable, "-m", "tests.bench.ask", url]
    env = environment(workspace.folder)
    done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the study could not be asked:\n{done.stderr[-2000:]}")
    took = json.loads(done.stdout.splitlines()[-1])
    first, again = took["asks"][0], took["asks"][1:]
    conditions = f"{BEFORE} finished trials of eight dimensions in a new SQLite file"
    return [
        Figure(
            "first ask of a process",
            None,
            took["open"] + first,
            "CPU s",
            f"opening the study {took['open']:.2f} s (imports Optuna, makes its tables), asking {first:.2f} s "
            f"(imports SciPy and fits); {conditions}",
        ),
        Figure(
            "ask in the same process",
            ASK_S,
            statistics.median(again),
            "CPU s",
            f"median of {len(again)}, {min(again):.2f} to {max(again):.2f} s",
        ),
    ]


def _ask(url: str) -> dict[str, object]:
    """Ask a study of eight dimensions."""
    import numpy as np
    from wideloop.tuning.sampler.cube import Cube
    from wideloop.tuning.study import TuningStudy

    from tests.bench.surfaces import SURFACES

    surface, random = SURFACES[-1], np.random.default_rng(1)
    began = time.process_time()
    study = TuningStudy.open(url, "bench", surface.space, seed=1, physics=surface.physics("right", 0))
    opened = time.process_time() - began
    cube = Cube(surface.space)
    for k, point in enumerate(cube.points(cube.sobol(BEFORE, 1))[:BEFORE]):
        study.add_measured(point, *surface.measured(surface.at([point]), random), f"made up {k}")
    asks = []
    for k in range(ASKS):
        began = time.process_time()
        asked = study.ask(f"run {k}")
        asks.append(time.process_time() - began)
        study.tell_measured(asked.number, *surface.measured(surface.at([asked.point]), random))
    return {"open": opened, "asks": asks}


if __name__ == "__main__":
    print(json.dumps(_ask(sys.argv[1])))
