"""The GPUs of this host, by the driver's own tool, and what keeps a deployment from using them."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import time
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from pydantic import BaseModel, ConfigDict
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines.base import Component
from wideloop.manifests.errors import TargetError
from wideloop.manifests.findings import Finding

_QUERY = "index,uuid,name,memory.total,memory.used,driver_version"
#: MiB in use above which a GPU counts as busy; the driver keeps far less on an idle one.
BUSY_MIB = 1024
#: Oldest driver (major version) of each CUDA major version, with minor-version compatibility; NVIDIA's CUDA
#: compatibility guide.
_OLDEST_DRIVER = {"11": 450, "12": 525, "13": 580}
_LOOK_AGAIN_S = 0.25
_TO_DO = {"prefill": "prefill", "decode": "decode", "aggregated": "serve"}


class Gpu(BaseModel):
    """One GPU as ``nvidia-smi`` describes it; memory in MiB."""

    model_config = ConfigDict(frozen=True)

    index: int
    uuid: str
    name: str
    total_mib: int
    used_mib: int
    driver: str


def read() -> list[Gpu]:
    """The GPUs that started processes would see (``CUDA_VISIBLE_DEVICES``); none where there is no driver."""
    try:
        rows = _smi(f"--query-gpu={_QUERY}")
    except (OSError, TargetError):
        return []
    gpus_there = [
        Gpu(index=int(i), uuid=u, name=n, total_mib=_mib(total), used_mib=_mib(used), driver=d)
        for i, u, n, total, used, d in rows
    ]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return gpus_there
    names = [part.strip() for part in wanted.split(",") if part.strip()]
    return [g for name in names for g in gpus_there if name == str(g.index) or g.uuid.startswith(name)]


def gpu_findings(
    spec: DeploymentSpec, gpus: Sequence[Gpu], cuda: str | None, ours: Collection[int] = ()
) -> list[Finding]:
    """Why ``spec`` cannot run on ``gpus`` now.

    Args:
        cuda: major version of CUDA the engine was built with, if known.
        ours: processes that may hold memory (a standby's CUDA context).
    """
    if len(gpus) < spec.gpus:
        return [_too_few(spec, gpus)]
    used = gpus[: spec.gpus]
    problems = [f for gpu in used if (f := _busy(gpu, ours)) is not None]
    oldest = _OLDEST_DRIVER.get(cuda or "", 0)
    if int(used[0].driver.split(".")[0]) < oldest:
        rule = f"the engine was built with CUDA {cuda}, which needs driver {oldest} or newer"
        suggestion = f"Install driver {oldest} or newer, or an engine built with an older CUDA"
        problems.append(Finding(field="driver", value=used[0].driver, rule=rule, suggestion=suggestion))
    name = spec.hardware.gpu.device_name
    other = next((g for g in used if name and g.name.replace(" ", "_") != name), None)
    if other is not None:
        problems.append(
            Finding(
                field="hardware",
                value=spec.hardware.name,
                rule=f"is a profile of {spec.hardware.gpu.name}, and GPU {other.index} here is {other.name}",
                suggestion="Use a profile of that GPU: memory is judged by the profile",
                severity="warning",
            )
        )
    return problems


def shares(components: Sequence[Component]) -> dict[str, dict[str, str]]:
    """By component, the variables that leave it GPUs of its own, in the order of :func:`read`, or none at all.

    Empty where one component has them all: it sees what we see.

    Raises:
        TargetError: fewer are visible than they need.
    """
    wanted = sum(c.gpus for c in components)
    if sum(c.gpus > 0 for c in components) < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(wanted)] if visible is None else [n.strip() for n in visible.split(",") if n.strip()]
    if len(names) < wanted:
        raise TargetError(f"CUDA_VISIBLE_DEVICES={visible} shows {len(names)} GPUs, and {wanted} are needed")
    left = iter(names)
    # CUDA may number GPUs by their speed; nvidia-smi, by which they are judged, does by their place.
    order = {"CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}
    return {c.name: {**order, "CUDA_VISIBLE_DEVICES": ",".join(islice(left, c.gpus))} for c in components}


def wait_until_free(count: int, ours: Collection[int] = (), patience_s: float = 30.0) -> None:
    """Return when the first ``count`` GPUs hold no more memory, which takes the driver a moment after a process' end.

    Raises:
        TargetError: they still do after ``patience_s``.
    """
    deadline = time.monotonic() + patience_s
    while held := [g for g in read()[:count] if _busy(g, ours)]:
        if time.monotonic() > deadline:
            raise TargetError("; ".join(f"GPU {g.index} still holds {g.used_mib} MiB{_holders(g)}" for g in held))
        time.sleep(_LOOK_AGAIN_S)


def cuda_of(versions: Iterable[str]) -> str | None:
    """The major version of CUDA among an environment's packages (``name==version``), None when they do not tell."""
    for package in versions:
        name, _, version = package.partition("==")
        if name == "nvidia-cuda-runtime":
            return version.split(".")[0]
        if named := re.fullmatch(r"nvidia-cuda-runtime-cu(\d+)", name):
            return named[1]
    return None


def _too_few(spec: DeploymentSpec, gpus: Sequence[Gpu]) -> Finding:
    have = f"this host has {len(gpus)}" if gpus else "no GPU can be seen here (nvidia-smi)"
    parts = [f"{w.layout.gpus * w.replicas} to {_TO_DO[w.role]}" for w in spec.workers]
    needs = f"{spec.gpus} GPUs" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")
    smaller = _largest_profile(spec, len(gpus))
    suggestion = f"Use a host with {spec.gpus} GPUs" + (f", or hardware profile {smaller}" if smaller else "")
    return Finding(field="hardware", value=spec.hardware.name, rule=f"needs {needs}; {have}", suggestion=suggestion)


def _largest_profile(spec: DeploymentSpec, count: int) -> str | None:
    """The profile of one node that has most of the same GPUs, up to ``count``."""
    hardware_profiles = [profiles.hardware(name) for name in profiles.hardware_names()]
    fit = [p for p in hardware_profiles if p.gpu == spec.hardware.gpu and p.nodes == 1 and p.gpus <= count]
    return max(fit, key=lambda p: p.gpus).name if fit else None


def _busy(gpu: Gpu, ours: Collection[int]) -> Finding | None:
    if gpu.used_mib <= BUSY_MIB:
        return None
    holders = _processes(gpu)
    if holders and all(pid in ours for pid, _ in holders):
        return None
    return Finding(
        field="hardware",
        value=f"GPU {gpu.index}",
        rule=f"is in use: {gpu.used_mib} of {gpu.total_mib} MiB are taken{_holders(gpu)}, by no deployment of wideloop",
        suggestion="Wait for it, or set CUDA_VISIBLE_DEVICES to free GPUs; no foreign process is ended from here",
    )


def _holders(gpu: Gpu) -> str:
    names = [f"{name} (process {pid})" for pid, name in _processes(gpu)]
    return f" by {', '.join(names)}" if names else ""


def _processes(gpu: Gpu) -> list[tuple[int, str]]:
    """Who computes on ``gpu``, where the driver tells."""
    try:
        rows = _smi("--query-compute-apps=gpu_uuid,pid,process_name")
    except (OSError, TargetError):
        return []
    return [(int(pid), name) for uuid, pid, name in rows if uuid == gpu.uuid and pid.isdigit()]


def _smi(query: str) -> list[list[str]]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise TargetError(f"nvidia-smi ended with {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}")
    return [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines()) if row]


def _mib(cell: str) -> int:
    return int(cell) if cell.isdigit() else 0
