"""Disturb a cycle on a GPU host at random moments, run it again until it ends, and count what became of it.

    python -m tests.gpu.provoke request.json --run disturbed --events driver,scheduler,router --seed 1 --out out

An event is one of

    driver     SIGKILL to the process that runs the cycle
    scheduler  SIGKILL to one of SGLang's scheduler ranks
    router     SIGKILL to SGLang's router (prefill and decode apart)
    foreign    a process of another owner takes GPU memory for a while
    clock      the host's clock is set an hour ahead (needs root), and back at the end

Only processes that carry this home's ``WIDELOOP_HOME``, or descend from one that does, are touched. At the end: trials
per number, measurements per key, deployments left, GPU memory in use. Needs ``/proc``, that is, Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

#: Exit status of a cycle whose budget has ended.
_AGAIN = 75
_FOREIGN = """
import sys, time, torch
held = torch.empty(int(float(sys.argv[1]) * 2**30), dtype=torch.uint8, device="cuda:0")
time.sleep(float(sys.argv[2]))
"""


class Cycle:
    """The command that runs a cycle, started again after each end that is not its own."""

    def __init__(self, request: Path, run: str, out: Path, deadline: float) -> None:
        self._argv = [sys.executable, "-m", "wideloop.operators.standalone", str(request), "--run", run]
        self._argv += ["--report", str(out / run)]
        self._log = (out / f"{run}.log").open("ab")
        self._deadline = deadline
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        budget = ["--budget", str(max(1.0, self._deadline - time.monotonic()))]
        return subprocess.Popen([*self._argv, *budget], stdout=self._log, stderr=subprocess.STDOUT)

    def is_over(self) -> bool:
        """Whether the cycle ended by itself; a killed one is started again."""
        status = self.process.poll()
        if status is None:
            return False
        if status >= 0:
            say(f"the cycle ended with status {status}")
            return True
        say(f"the driver died of signal {-status}; started again")
        self.process = self._start()
        return False

    def end(self) -> None:
        """End the driver as a person would, so that it cleans up."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(120)
        self._log.close()


def processes() -> Iterator[tuple[int, str]]:
    """(pid, command line) of the processes of this home, but for this one and what it was started by."""
    mine = {os.getpid(), os.getppid()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in mine and _is_of_this_home(int(entry.name)):
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue


def _is_of_this_home(pid: int) -> bool:
    """A program that sets its title overwrites its environment, so ancestors count too."""
    mark = f"WIDELOOP_HOME={os.environ['WIDELOOP_HOME']}".encode()
    while pid > 1:
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return True
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return False
    return False


def kill(fragment: str, chance: random.Random) -> bool:
    """SIGKILL one of the processes whose command line contains ``fragment``; whether there was one."""
    candidates = sorted(pid for pid, command in processes() if fragment in command)
    if not candidates:
        return False
    os.kill(chance.choice(candidates), signal.SIGKILL)
    return True


def take_memory() -> bool:
    """Start a process of nobody's that holds 100 GiB of GPU 0 for 40 s, or what it gets."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WIDELOOP_")}
    subprocess.Popen([sys.executable, "-c", _FOREIGN, "100", "40"], env=environment, stderr=subprocess.DEVNULL)
    return True


def step_clock(seconds: float) -> bool:
    """Set the host's clock ahead, or back for a negative number."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
    return True


def summary(name: str) -> dict[str, object]:
    """What the stores and the host say after the cycle."""
    from wideloop.operators.standalone.cycle import DAG_ID
    from wideloop.operators.steps.run import Run, open_store
    from wideloop.operators.targets import open_target
    from wideloop.operators.targets.local import gpus

    run = Run(dag_id=DAG_ID, run_id=name).cycle_id
    with open_store() as store:
        trials = store.trials(cycle_id=run)
        measurements = store.measurements(cycle_id=run)
    keys = Counter((m.purpose, m.label, m.trial_number, m.repeat, m.concurrency) for m in measurements)
    return {
        "trials by state": dict(Counter(t.state for t in trials)),
        "trial numbers given twice": [n for n, times in Counter(t.number for t in trials).items() if times > 1],
        "measurements": len(measurements),
        "measurements stored twice": [list(key) for key, times in keys.items() if times > 1],
        "deployments left": [owned.name for owned in open_target("local").list_owned()],
        "processes left": [command[:80] for _pid, command in processes()],
        "GPU memory in use, MiB": [g.used_mib for g in gpus.read()],
    }


def say(line: str) -> None:
    """Print at once, with the seconds since the beginning."""
    print(f"{time.monotonic() - _BEGAN:7.1f} s  {line}", flush=True)


_BEGAN = time.monotonic()


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("request", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--events", default="driver,scheduler,driver")
    parser.add_argument("--between", type=float, nargs=2, default=(15.0, 45.0), help="seconds between two events")
    parser.add_argument("--budget", type=float, default=400.0, help="seconds for everything")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    chance = random.Random(args.seed)
    cycle = Cycle(args.request, args.run, args.out, time.monotonic() + args.budget)
    events: dict[str, Callable[[], bool]] = {
        "driver": lambda: cycle.process.send_signal(signal.SIGKILL) is None,
        "scheduler": lambda: kill("sglang::scheduler", chance),
        "router": lambda: kill("sglang_router", chance),
        "foreign": take_memory,
        "clock": lambda: step_clock(3600.0),
    }
    stepped = 0
    try:
        for event in args.events.split(","):
            pause = time.monotonic() + chance.uniform(*args.between)
            while time.monotonic() < pause and not cycle.is_over():
                time.sleep(0.5)
            if cycle.process.poll() is not None:
                break
            while not (happened := events[event]()) and not cycle.is_over():
                time.sleep(0.2)  # No such process just now.
            if not happened:
                break
            stepped += event == "clock"
            say(f"event: {event}")
        while not cycle.is_over():
            time.sleep(0.5)
    finally:
        cycle.end()
        if stepped:
            step_clock(-3600.0 * stepped)
    result = summary(args.run)
    (args.out / f"{args.run}.json").write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        say(f"{name}: {value}")


if __name__ == "__main__":
    main()
