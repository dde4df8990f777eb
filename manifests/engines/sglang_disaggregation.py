"""Prefill and decode as SGLang servers of their own: how they find each other, and SGLang's router in front of them.

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

#: The router, as a component. It has a metrics page of its own, at a port that would be everybody's otherwise.
ROUTER = Component(name="frontend", role="frontend", ports=("http", "metrics"))
#: What moves KV caches where the host's options name nothing else: Dynamo's choice, too.
_TRANSFER = "nixl"
_TRANSFER_FLAG = "--disaggregation-transfer-backend"
#: Packages that bring each transfer library; one of them will do.
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


def server_args(worker: WorkerSpec, site: Site) -> tuple[str, ...]:
    """What makes a server one half of a deployment; nothing for a worker that prefills and decodes."""
    if worker.role == "aggregated":
        return ()
    mode = ("--disaggregation-mode", worker.role, _TRANSFER_FLAG, _TRANSFER)
    if worker.role == "decode":
        return mode
    return (*mode, "--disaggregation-bootstrap-port", str(site.ports["bootstrap"]))


def server_env(worker: WorkerSpec, site: Site) -> dict[str, str]:
    """The address at which ranks on one host meet: SGLang would take that of its first network, or find none."""
    return {} if worker.role == "aggregated" else {"SGLANG_HOST_IP": site.host}


def router(servers: Iterable[Component], site: Site) -> Command:
    """SGLang's router in front of ``servers``.

    It hides nothing: no retries and no circuit breaker, or a benchmark would not see requests that fail; no health
    checks, because the target watches the processes, and a server under load may be late to answer them. Requests
    go round, because a prefix tree of prompts that all differ costs memory and finds nothing.
    """
    argv = [site.python, "-m", "sglang_router.launch_router", "--pd-disaggregation"]
    for server in servers:
        its = site.peers[server.name]
        argv += [f"--{server.role}", f"http://{site.host}:{its['control']}"]
        argv += [str(its["bootstrap"])] if "bootstrap" in its else []
    argv += ["--host", site.host, "--port", str(site.ports["http"])]
    argv += ["--prometheus-host", site.host, "--prometheus-port", str(site.ports["metrics"])]
    argv += ["--policy", "round_robin", "--disable-retries", "--disable-circuit-breaker", "--disable-health-check"]
    # It looks for servers that are starting every 30 s otherwise, and writes two lines for each request.
    argv += ["--worker-startup-check-interval", "1", "--log-level", "warn"]
    return Command(argv=tuple(argv))


def needs(options: Sequence[str]) -> tuple[Need, ...]:
    """What must be installed besides SGLang, when every server of the host also gets ``options``."""
    library = _transfer(options)
    return (
        Need(packages=(_ROUTER_PACKAGE,), purpose="the router in front of prefill and decode"),
        Need(packages=_LIBRARIES.get(library, (library,)), purpose=f"moving KV caches ({_TRANSFER_FLAG} {library})"),
    )


def findings(servers: Sequence[WorkerSpec]) -> Iterator[Finding]:
    """A half without the other answers nothing."""
    roles = {w.role for w in servers}
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        if role in roles and other not in roles:
            rule = f"there is no {other} worker to go with it"
            yield Finding(field="hardware", value=role, rule=rule, suggestion=f"Use a profile with a {other} worker")


def _transfer(options: Sequence[str]) -> str:
    """The transfer library that a server takes: the last one that is named, as its parser has it."""
    named = _TRANSFER
    for option, value in pairwise([*options, ""]):
        if option == _TRANSFER_FLAG:
            named = value
        elif option.startswith(f"{_TRANSFER_FLAG}="):
            named = option.partition("=")[2]
    return named
