"""The memory that a demo takes, sampled from outside.

Counted is PSS: a page that n processes share counts 1/n for each, so that the sum is what the machine needs.
Whose a process is, is told by its session, since Airflow overwrites its processes' environment when it renames
them: the demo command and Airflow have one each, and every engine and client begins one of its own and is
marked with its deployment's folder.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wideloop.operators.commands.demo.airflow_process import Running
from wideloop.operators.targets.local.process import MARK

from tests.bench.figure import Figure, parts

Family = Literal["airflow", "engine", "client", "command"]
LIMIT_GIB = 4.0
PERIOD_S = 2.0
_GIB = 1024**3


@dataclass(frozen=True)
class Process:
    """What the kernel says about a process; ``mark`` is empty when it bears none."""

    pid: int
    parent: int
    session: int
    mark: str = ""


def families(
    processes: Iterable[Process], *, command: int, airflow: int | None, deployments: Path
) -> dict[int, Family]:
    """The family of each process by pid; processes outside the demo are left out.

    Args:
        processes: all of the machine.
        command: pid of the demo command, which leads its session. airflow: the same of its Airflow, once known.
        deployments: folder of the local target's state, below which marks point.
    """
    everyone = {p.pid: p for p in processes}
    sessions: dict[int, Family] = {command: "command"}
    if airflow is not None:
        sessions[airflow] = "airflow"
    own: dict[int, Family] = {command: "command"}
    for process in everyone.values():
        if process.mark and Path(process.mark).is_relative_to(deployments):
            _deployment, kind, *_ = (*Path(process.mark).relative_to(deployments).parts, "", "")
            family: Family = "client" if kind == "clients" else "engine"
            own[process.pid] = sessions[process.session] = family
    by_pid = {}
    for pid in everyone:
        at: int = pid
        # A process that left its session still has its parent; the walk ends at init, which has no family.
        while at in everyone:
            family_here = own.get(at) or sessions.get(everyone[at].session)
            if family_here is not None:
                by_pid[pid] = family_here
                break
            at = everyone[at].parent
    return by_pid


class Sampler(threading.Thread):
    """Samples until stopped. ``peak`` is the sample with the largest sum, in bytes by family.

    Args:
        home: of the demo. command: its pid, leading a session of its own.
    """

    def __init__(self, home: Path, command: int) -> None:
        super().__init__(name="memory sampler", daemon=True)
        self._home = home
        self._command = command
        self._airflow: int | None = None
        self._stop_asked = threading.Event()
        self._began = time.monotonic()
        self.peak: dict[Family, int] = {}
        self.peak_at_s = 0.0
        self.largest: dict[Family, int] = {}
        self.samples = 0
        self.cpu_s = 0.0

    def run(self) -> None:
        while not self._stop_asked.wait(PERIOD_S):
            sample = self.sample()
            self.samples += 1
            self.cpu_s = time.thread_time()
            self.largest = {f: max(sample.get(f, 0), self.largest.get(f, 0)) for f in {*sample, *self.largest}}
            if sum(sample.values()) > sum(self.peak.values()):
                self.peak, self.peak_at_s = sample, time.monotonic() - self._began

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()

    def sample(self) -> dict[Family, int]:
        """Bytes by family now."""
        by_family: dict[Family, int] = {}
        for pid, family in self.processes().items():
            by_family[family] = by_family.get(family, 0) + pss(pid)
        return by_family

    def processes(self) -> dict[int, Family]:
        """The demo's living processes."""
        if (running := Running.read(self._home)) is not None:
            self._airflow = running.airflow.pid
        return families(all_processes(), command=self._command, airflow=self._airflow, deployments=self._home / "local")

    def figure(self) -> Figure:
        """The peak of the whole demo."""
        gib = {family: size / _GIB for family, size in sorted(self.peak.items())}
        alone = {family: size / _GIB for family, size in sorted(self.largest.items())}
        return Figure(
            "peak memory of the whole demo",
            LIMIT_GIB,
            sum(gib.values()),
            "GiB",
            f"PSS at {self.peak_at_s / 60:.1f} min: {parts(gib, 'GiB', 2)}; each family's own peak: "
            f"{parts(alone, 'GiB', 2)}; {self.samples} samples, one every {PERIOD_S:g} s, which cost "
            f"{self.cpu_s:.0f} CPU s",
        )


def all_processes() -> list[Process]:
    """Every running process of this machine that is readable."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                process = _process(int(entry.name))
                if process is not None:
                    processes.append(process)
    return processes


def pss(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that has ended or is not ours to look at."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _process(pid: int) -> Process | None:
    # The name, in parentheses, may itself hold spaces and parentheses.
    state, parent, _group, session, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if state in "ZX":
        return None
    environ: Mapping[str, str] = {}
    with contextlib.suppress(OSError):
        raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        environ = dict(entry.split("=", 1) for entry in raw.split("\0") if "=" in entry)
    return Process(pid, int(parent), int(session), environ.get(MARK, ""))
