"""The engine's parameters of each role: a knob of :class:`~wideloop.manifests.deployment.Knobs` for prefill and decode.

An aggregated worker does both: it takes decode's value, and prefill's where decode has none.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from wideloop.manifests.deployment import Knobs, WorkerSpec
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import Role
from wideloop.manifests.parameters import Parameter, field_type

_SECTIONS: dict[Role, str] = {"prefill": "Engine: prefill", "decode": "Engine: decode"}
_OPTIONS = "engine_options"


class _Knob(NamedTuple):
    """A knob on the form. ``roles``: those that have the parameter; others have it under another name or not at all."""

    field: str
    title: str
    help: str
    roles: tuple[Role, ...] = ("prefill", "decode")


_KNOBS = (
    _Knob(
        "deepep_mode",
        "DeepEP mode",
        "normal: many tokens at once, for prefill. low_latency: few tokens under CUDA graphs, for decode. off: ranks "
        "sum their parts. By default the mode of the role where a worker spans nodes, or where placed experts need it.",
    ),
    _Knob(
        "deepep_dispatch_tokens",
        "DeepEP dispatch tokens",
        "Tokens per rank that low-latency buffers hold: at least the largest running batch per rank.",
        ("decode",),
    ),
    _Knob("two_batch_overlap", "Two-batch overlap", "Computes one half of a batch while the other communicates."),
    _Knob("redundant_experts", "Redundant experts", "Replaces Redundant experts of all roles."),
    _Knob("mem_fraction_static", "Memory fraction", "Share of GPU memory for weights and KV cache.", ("prefill",)),
    _Knob(
        "chunked_prefill_size",
        "Prefill chunk",
        "Tokens of one prefill pass of the whole worker, divided among its attention-DP ranks.",
        ("prefill",),
    ),
    _Knob("max_running_requests", "Running requests", "Of the whole worker, at most; more wait in its queue."),
    _Knob("max_total_tokens", "Tokens in the KV cache", "At most; less than the memory fraction allows."),
    _Knob("context_length", "Context length", "Tokens of the longest request, prompt and answer."),
    _Knob("radix_cache", "Radix cache", "Reuses the KV cache of equal prefixes."),
    _Knob("page_size", "KV page size", "Tokens of one page of the KV cache."),
    _Knob("attention_backend", "Attention back end", "As the engine calls it, e.g. fa3, flashinfer, flashmla."),
    _Knob(
        "dispatch_algorithm",
        "Dispatch algorithm",
        "Which replica of an expert a rank uses. static: the nearest. dynamic: at random. lp: by a linear program.",
    ),
    _Knob("eplb_algorithm", "EPLB algorithm", "Of rebalancing online: how the engine places experts."),
    _Knob("expert_placement", "Expert placement", "Path of a placement file (physical_to_logical_map) of your own."),
)


def engine_parameters() -> tuple[Parameter, ...]:
    """One parameter for each knob of each role; empty leaves the choice to the engine."""
    knobs = [_parameter(role, knob) for role in _SECTIONS for knob in _KNOBS if role in knob.roles]
    return (*knobs, *(_options(role) for role in _SECTIONS))


def _parameter(role: Role, knob: _Knob) -> Parameter:
    kind = field_type(Knobs, knob.field)
    name, title = f"{role}_{knob.field}", f"{knob.title} ({role})"
    return Parameter(name, title, f"{knob.help} Empty: the engine's choice.", _SECTIONS[role], kind | None, None)


def _options(role: Role) -> Parameter:
    return Parameter(
        f"{role}_{_OPTIONS}",
        f"Further flags ({role})",
        "Flags of the engine's own, one or more to a line, e.g. --kv-cache-dtype fp8_e4m3. They are checked as its "
        "parser would; those that the product sets are refused.",
        _SECTIONS[role],
        tuple[Annotated[str, Field(min_length=1)], ...],
        [],
        form={"items": {"type": "string"}},
    )


def role_knobs(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The knobs that parsed parameters set, by role; knobs that are left to the engine are left out."""
    return {
        role: {k.field: values[f"{role}_{k.field}"] for k in _KNOBS if values.get(f"{role}_{k.field}") is not None}
        for role in _SECTIONS
    }


def role_options(values: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The words of the further flags, by role.

    Raises:
        Refused: a quotation is not closed.
    """
    return {role: _words(f"{role}_{_OPTIONS}", values[f"{role}_{_OPTIONS}"]) for role in _SECTIONS}


def _words(name: str, lines: Iterable[str]) -> tuple[str, ...]:
    words: list[str] = []
    for line in lines:
        try:
            words += shlex.split(line)
        except ValueError as error:
            works = "Use e.g. --kv-cache-dtype fp8_e4m3"
            raise Refused([Finding(field=name, value=line, rule=str(error), suggestion=works)]) from error
    return tuple(words)


def with_role(worker: WorkerSpec, knobs: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]) -> WorkerSpec:
    """``worker`` with the knobs and flags of its role."""
    roles = ("prefill", "decode") if worker.role == "aggregated" else (worker.role,)
    of_role: dict[str, Any] = {}
    words: list[str] = []
    for role in roles:
        of_role |= knobs.get(role, {})
        words += [word for word in options.get(role, ()) if word not in words or not word.startswith("--")]
    changed = worker.knobs.changed(**of_role)
    if of_role.get("expert_placement"):
        changed = changed.changed(eplb="static")
    return worker.changed(knobs=changed, options=tuple(words))
