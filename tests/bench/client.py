"""What the load generator costs per start and per curve, against a real deployment of the default configuration."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil
from wideloop.manifests.clients import get_load_generator
from wideloop.manifests.engines import get_engine
from wideloop.manifests.workload import Workload
from wideloop.operators.request import Request
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import Owner
from wideloop.operators.targets.local.environment import environment_python, lock_digest
from wideloop.operators.targets.local.process import marked
from wideloop.operators.targets.local.target import LocalTarget

from tests.bench.figure import Figure
from tests.bench.workspace import BenchError, Workspace, run_to_end

_NAME = "bench"
#: A client that takes longer hangs.
_LIMIT_S = 300.0
_SINGLE = Workload(concurrency=(1,), requests_per_slot=1, warmup_requests=0)


def measure(workspace: Workspace) -> list[Figure]:
    """CPU seconds of the client for one request and for the default curve, and the engine's beside it.

    Raises:
        BenchError: the engine did not start, or the client failed.
    """
    workspace.say("starting an engine")
    here = Settings(home=workspace.warm_home("client"))
    request = Request.from_params({})
    with _serving(here, request) as target:
        idle = _engine_cpu_s(here)
        started = Figure(
            "start of a simulated deployment",
            None,
            idle,
            "CPU s",
            f"its {sum(1 for _ in marked(here.local))} processes until the first real generation, "
            f"after {target.status(_NAME).start_seconds or 0:.1f} s",
        )
        figures = []
        for name, workload in (
            # The first run of a data set also fills the cache of tokenised prompts.
            ("client: start and one request, first time", _SINGLE),
            ("client: start and one request, again", _SINGLE),
            ("client: start and curve, first time", request.workload),
            ("client: start and curve, again", request.workload),
        ):
            workspace.say(name)
            figures.append(_client(here, target, name, workload))
    return [*figures, started]


def _client(here: Settings, target: LocalTarget, name: str, workload: Workload) -> Figure:
    """One run of the client as a child of this process, which is how its CPU time becomes known."""
    spec = target.spec(_NAME)
    out = here.home / "out" / name.rpartition(": ")[2].replace(" ", "-").replace(",", "")
    generator = get_load_generator(workload.client)
    command = generator.command(
        workload,
        url=target.endpoints(_NAME).frontend,
        model=spec.model.name,
        tokenizer_dir=spec.model_path,
        out_dir=str(out),
        cache_dir=target.client_cache_dir,
    )
    binaries = environment_python(here, generator.environment).parent
    env = {**os.environ, **command.env, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    log = here.home / f"{out.name}.log"
    before, engine_before, began = _children_cpu_s(), _engine_cpu_s(here), time.monotonic()
    with log.open("wb") as output:
        status = run_to_end(command.argv, env, _LIMIT_S, output)
    seconds = time.monotonic() - began
    if status:
        raise BenchError(f"{name} ended with status {status}:\n{log.read_text(errors='replace')[-2000:]}")
    cpu, engine_cpu = _children_cpu_s() - before, _engine_cpu_s(here) - engine_before
    levels = ", ".join(str(c) for c in workload.concurrency)
    sent = workload.warmup_requests + workload.requests_per_slot * sum(workload.concurrency)
    made_of = (
        f"requests: {sent} of {workload.isl} tokens in and {workload.osl} out, concurrency {levels}; took "
        f"{seconds:.1f} s, in which the engine used {engine_cpu:.1f} CPU s"
    )
    return Figure(name, None, cpu, "CPU s", made_of)


@contextmanager
def _serving(here: Settings, request: Request) -> Iterator[LocalTarget]:
    """The default configuration, ready; deleted in the end."""
    target = LocalTarget(here)
    engine = get_engine(request.engine)
    weights = target.prepare_weights(engine, request.model)
    spec = request.spec(_NAME, lock_digest(engine.environment), weights.path)
    try:
        target.apply(spec, Owner(dag_id="bench", run_id=datetime.now(UTC).isoformat()))
        while (status := target.status(_NAME)).state == "pending":
            time.sleep(0.2)
        if status.state != "ready":
            raise BenchError(f"the engine did not start: {status.reason}")
        yield target
    finally:
        target.delete(_NAME)


def _children_cpu_s() -> float:
    """CPU seconds of all children that were waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _engine_cpu_s(here: Settings) -> float:
    """CPU seconds that the living processes of our deployment have used."""
    total = 0.0
    for process, _ in marked(here.local):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total
