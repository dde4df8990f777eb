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

#: Finished trials when the first point is asked for: enough for the sampler to model them.
BEFORE = 6
ASKS = 4


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
    conditions = f"{BEFORE} finished trials with made-up values in a new SQLite file"
    return [
        Figure(
            "first ask of a process",
            None,
            took["open"] + first,
            "CPU s",
            f"opening the study {took['open']:.2f} s (imports Optuna, makes its tables), asking {first:.2f} s "
            f"(imports torch {took['torch']:.2f} s and fits); {took['sampler']}, {conditions}",
        ),
        Figure(
            "ask in the same process",
            None,
            statistics.median(again),
            "CPU s",
            f"median of {len(again)}, {min(again):.2f} to {max(again):.2f} s",
        ),
    ]


def _ask(url: str) -> dict[str, object]:
    from wideloop.tuning.space import SearchSpace
    from wideloop.tuning.study import TuningStudy

    space = SearchSpace()
    began = time.process_time()
    study = TuningStudy.open(url, "bench", space, seed=1)
    opened = time.process_time() - began
    low, high = space["mem_fraction_static"]
    for k in range(BEFORE):
        share = k / BEFORE
        point = {
            "redundant_slots": k % 4,
            "mem_fraction_static": low + share * (high - low),
            "cuda_graph_max_bs": 4 + k,
        }
        study.add_measured(point, 100 + 10 * share * (1.4 - share), {"ttft_p99": -0.5}, f"made up {k}")
    asks, torch_s = [], 0.0
    for k in range(ASKS):
        began = time.process_time()
        if k == 0:
            # Asking imports it anyway; here first, so that its share is known.
            import torch  # noqa: F401

            torch_s = time.process_time() - began
        suggestion = study.ask(f"run {k}")
        asks.append(time.process_time() - began)
        study.tell_measured(suggestion.number, 105.0 + k, {"ttft_p99": -0.5})
    return {"open": opened, "torch": torch_s, "asks": asks, "sampler": type(study._study.sampler).__name__}


if __name__ == "__main__":
    print(json.dumps(_ask(sys.argv[1])))
