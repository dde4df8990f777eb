"""One run of a container: a process in namespaces of its own, and its log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.cluster.agent.volumes import Mount

_SANDBOX = Path(__file__).with_name("sandbox.sh")
#: Stays outside of the PID namespace, so that it lives to say how the first process in it ended: 128 + signal when
#: killed by one. What a shell remarks on that is not part of the container's log.
_PARENT = 'exec 3>&2 2>/dev/null; (exec setpriv --pdeathsig KILL sh "$@" 2>&3 3>&-); exit $?'
#: File systems whose content is not this machine's files, or that a container has of its own.
_OWN = ("/proc", "/sys", "/dev", "/run")
_LINE = 1 << 20


class Run:
    """One start of one container; it ends with its process.

    Attributes:
        started_at, finished_at: UTC; the latter None while it runs.
        exit_code: as a kubelet reports it, 128 + signal when killed by one; None while it runs.
        oom_killed: whether :meth:`kill` was told to say so.
        ended: set when the process has ended.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self.oom_killed = False
        self.ended = asyncio.Event()
        self.exit_code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.finished_at: datetime | None = None

    async def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        mounts: Sequence[Mount],
        *,
        namespace: str,
        hostname: str,
        workdir: str = "/",
    ) -> None:
        """Start ``command`` in the network ``namespace``; it dies should the agent die."""
        scratch = self._folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        message = self._folder / "termination-log"
        message.write_text("")
        table = self._folder / "mounts"
        every = [*_other_file_systems(), *mounts, Mount(message, "/dev/termination-log", False)]
        # A link in the way (/var/run is one) would lead out of the container's root while that is being made.
        lines = [f"{'ro' if m.read_only else 'rw'}\t{m.source}\t{os.path.realpath(m.target)}\n" for m in every]
        table.write_text("".join(lines))
        arguments = [
            *("setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{namespace}"),
            *("unshare", "--mount", "--uts", "--ipc", "--pid", "--propagation=private", "sh", "-c", _PARENT, "sh"),
            *(str(_SANDBOX), str(scratch), hostname[:63], workdir, str(table), "--", *command),
        ]
        self.started_at = datetime.now(UTC)
        self._process = await asyncio.create_subprocess_exec(
            *arguments,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LINE,
        )
        self._copy = asyncio.create_task(self._copy_log(self._process.stdout))

    async def wait(self) -> int:
        """The exit code, once the process and everything it started has ended."""
        assert self._process is not None
        code = await self._process.wait()
        await self._copy
        self.exit_code = 128 - code if code < 0 else code
        self.finished_at = datetime.now(UTC)
        self.ended.set()
        return self.exit_code

    def pid(self) -> int | None:
        """The container's first process as this machine numbers it, None when there is none yet or any more."""
        if self._process is None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            return int(psutil.Process(self._process.pid).children()[0].pid)
        return None

    def kill(self, number: int = signal.SIGKILL, *, out_of_memory: bool = False) -> None:
        """Send a signal to the first process; when that dies the kernel kills the others."""
        self.oom_killed = self.oom_killed or out_of_memory
        if pid := self.pid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def execute(self, command: Sequence[str], timeout_s: float) -> int:
        """Exit code of ``command`` inside the container, for exec probes; 124 when it took longer."""
        pid = self.pid()
        if pid is None:
            return 1
        inside = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "nsenter", "--target", str(pid)),
            *("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await asyncio.wait_for(inside.wait(), timeout_s)
        except TimeoutError:
            inside.kill()
            await inside.wait()
            return 124

    def message(self, fall_back_to_log: bool) -> str:
        """The termination message: the file's, or the log's end when that is empty and the pod asks for it."""
        text = (self._folder / "termination-log").read_text(errors="replace")[-4096:]
        if not text and fall_back_to_log and self.exit_code:
            lines = self._log.read_text(errors="replace").splitlines()[-80:]
            text = "\n".join(line.partition(" ")[2] for line in lines)[-2048:]
        return text

    async def _copy_log(self, output: asyncio.StreamReader | None) -> None:
        """Each line with the time it came, as container runtimes keep logs."""
        assert output is not None
        with self._log.open("ab", buffering=0) as log:
            while True:
                try:
                    line = await output.readline()
                except ValueError:  # longer than the limit: that much of it is dropped
                    continue
                if not line:
                    return
                came = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ")
                log.write(came.encode() + line.rstrip(b"\n") + b"\n")


def _other_file_systems() -> list[Mount]:
    """What else is mounted on this machine, so that a project or an environment on a disk of its own is there."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind, *_ = line.split()
        path = Path(target.encode().decode("unicode_escape"))
        if target == "/" or target.startswith(_OWN) or kind in ("proc", "sysfs", "nsfs", "cgroup", "cgroup2"):
            continue
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(path.stat().st_mode) and os.access(path, os.R_OK):
                found.append(Mount(path, str(path), True))
    return found
