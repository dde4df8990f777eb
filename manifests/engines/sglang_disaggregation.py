"""Prefill and decode as separate SGLang servers: how they find each other, and SGLang's router in front of them.

The router gives each request to a prefill server and to a decode server at once, with the address at which the former
says what the latter fetches (the bootstrap). KV caches then go from GPU to GPU through a transfer library.

Read in SGLang 0.5.17 to 0.5.23 (``srt/disaggregation``) and sglang-router 0.3.2 (``router_args.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.base import Command, Component, Need, Site
from wideloop.manifests.findings import Finding

#: The router, as a component. Its metrics page gets a port of its own; by default all routers use the same one.
ROUTER = Component(name="frontend", role="frontend", ports=("http", "metrics"))
#: Transfer library for KV caches when the host's options name none; also Dynamo's choice.
_TRANSFER = "nixl"
_TRANSFER_FLAG = "--disaggregation-transfer-backend"
#: Packages that contain each transfer library; one of them is enough.
_LIBRARIES = {
    "nixl": ("nixl",),
    "mooncake": (
        "mooncake-transfer-engine",
        "mooncake-transfer-engine-cuda13",
        "mooncake-transfer-engine-efa",
        "mooncake-transfer-engine-efa-cuda13",
        "mooncake-transfer-engine-non-cuda",
    ),
}
_LIBRARIES["mooncake_tcp"] = _LIBRARIES["mooncake"]
_ROUTER_PACKAGE = "sglang-router"


def ports(worker: WorkerSpec) -> tuple[str, ...]:
    """Names of the ports of one server of ``worker``."""
    return ("control", "bootstrap") if worker.role == "prefill" else ("control",)


def replaceable_args(worker: WorkerSpec) -> tuple[str, ...]:
    """The transfer library, which comes before the user's flags: they may replace it."""
    return () if worker.role == "aggregated" else (_TRANSFER_FLAG, _TRANSFER)


def server_args(worker: WorkerSpec, site: Site) -> tuple[str, ...]:
    """Flags that make a server a prefill or a decode server; none for an aggregated worker."""
    if worker.role == "aggregated":
        return ()
    mode = ("--disaggregation-mode", worker.role)
    if worker.role == "decode":
        return mode
    return (*mode, "--disaggregation-bootstrap-port", str(site.ports["bootstrap"]))


def server_env(worker: WorkerSpec, site: Site) -> dict[str, str]:
    """Variables with the address at which ranks on one host meet; SGLang would use its first network, or find none."""
    return {} if worker.role == "aggregated" else {"SGLANG_HOST_IP": site.host}


def router(servers: Iterable[Component], site: Site) -> Command:
    """SGLang's router in front of ``servers``.

    Retries and circuit breaker are off, because a benchmark must see requests that fail. Health checks are off,
    because the target watches the processes, and a server under load may answer a check late. The policy is round
    robin, because a prefix tree of prompts that all differ costs memory without a single hit.
    """
    argv = [site.python, "-m", "sglang_router.launch_router", "--pd-disaggregation"]
    for server in servers:
        its = site.peers[server.name]
        argv += [f"--{server.role}", f"http://{site.host}:{its['control']}"]
        argv += [str(its["bootstrap"])] if "bootstrap" in its else []
    argv += ["--host", site.host, "--port", str(site.ports["http"])]
    argv += ["--prometheus-host", site.host, "--prometheus-port", str(site.ports["metrics"])]
    argv += ["--policy", "round_robin", "--disable-retries", "--disable-circuit-breaker", "--disable-health-check"]
    # By default it looks for starting servers every 30 s and logs two lines for each request.
    argv += ["--worker-startup-check-interval", "1", "--log-level", "warn"]
    return Command(argv=tuple(argv))


def needs(options: Sequence[str]) -> tuple[Need, ...]:
    """Packages that must be installed besides SGLang, when every server of the host also gets ``options``."""
    library = _transfer(options)
    return (
        Need(packages=(_ROUTER_PACKAGE,), purpose="the router in front of prefill and decode"),
        Need(packages=_LIBRARIES.get(library, (library,)), purpose=f"moving KV caches ({_TRANSFER_FLAG} {library})"),
    )


def missing_half_findings(servers: Sequence[WorkerSpec]) -> Iterator[Finding]:
    """Errors for prefill without decode, or the reverse: neither can answer a request."""
    roles = {w.role for w in servers}
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        if role in roles and other not in roles:
            rule = f"there is no {other} worker, and a {role} worker alone answers no request"
            yield Finding(field="hardware", value=role, rule=rule, suggestion=f"Use a profile with a {other} worker")


def _transfer(options: Sequence[str]) -> str:
    """The transfer library that a server uses: the last one named, as in SGLang's parser."""
    named = _TRANSFER
    for option, value in pairwise([*options, ""]):
        if option == _TRANSFER_FLAG:
            named = value
        elif option.startswith(f"{_TRANSFER_FLAG}="):
            named = option.partition("=")[2]
    return named
