"""Findings about flags that users add to the command lines of SGLang's workers.

A flag that the product sets too is refused: one of the two values would not count, and a trial of a sweep would not run
with what the study records. On the command line the product's flags come last, where argparse takes the last value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from types import MappingProxyType

from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import sglang_defaults, sglang_flags, sglang_versions
from wideloop.manifests.engines.sglang_options import OptionError, Options, parse
from wideloop.manifests.engines.sglang_outdated import outdated_flag_findings
from wideloop.manifests.findings import Finding

_LAYOUT = "the layout of the hardware profile"
_TARGET = "nothing: the target sets it when it starts a worker"
_RECORDER = "the parameters recorder and recorded_passes"
#: Flags that the product sets or leaves out on purpose, and what to use instead.
MANAGED = MappingProxyType(
    {
        **dict.fromkeys(
            ("--tp-size", "--dp-size", "--attn-dp-size", "--enable-dp-attention", "--ep-size", "--pp-size"), _LAYOUT
        ),
        **dict.fromkeys(("--moe-dense-tp-size", "--enable-dp-lm-head"), _LAYOUT),
        **dict.fromkeys(("--dist-init-addr", "--nnodes", "--node-rank", "--host", "--port"), _TARGET),
        **dict.fromkeys(("--enable-metrics", "--disaggregation-mode", "--disaggregation-bootstrap-port"), _TARGET),
        **dict.fromkeys(("--model-path", "--served-model-name"), "the parameter model"),
        "--load-format": "nothing: weights that are drawn need dummy, others the engine's choice",
        "--moe-a2a-backend": "the parameters prefill_deepep_mode and decode_deepep_mode",
        "--deepep-mode": "the parameters prefill_deepep_mode and decode_deepep_mode",
        "--enable-two-batch-overlap": "the parameters prefill_two_batch_overlap and decode_two_batch_overlap",
        "--ep-num-redundant-experts": "the parameter redundant_experts",
        "--init-expert-location": "the parameters prefill_expert_placement and decode_expert_placement",
        "--enable-eplb": "the parameter eplb",
        "--eplb-algorithm": "the parameters prefill_eplb_algorithm and decode_eplb_algorithm",
        "--eplb-rebalance-num-iterations": "the parameter eplb_rebalance_iterations",
        "--ep-dispatch-algorithm": "the parameters prefill_dispatch_algorithm and decode_dispatch_algorithm",
        **dict.fromkeys(
            ("--expert-distribution-recorder-mode", "--expert-distribution-recorder-buffer-size"), _RECORDER
        ),
        **dict.fromkeys(
            ("--expert-balancedness-report-mode", "--enable-expert-distribution-metrics"), "the parameter eplb"
        ),
        "--mem-fraction-static": "the parameters mem_fraction_static (decode) and prefill_mem_fraction_static",
        **dict.fromkeys(
            (
                *("--cuda-graph-max-bs-decode", "--cuda-graph-bs-decode", "--cuda-graph-config"),
                *("--cuda-graph-max-bs", "--cuda-graph-bs"),
            ),
            "the parameter cuda_graph_max_bs",
        ),
        "--chunked-prefill-size": "the parameters prefill_chunked_prefill_size and prefill_chunks",
        "--max-running-requests": "the parameters prefill_max_running_requests and decode_max_running_requests",
    }
)
#: Flags that the product sets only where the knob is given, with the knob.
ON_REQUEST = MappingProxyType(
    {
        "--max-total-tokens": "max_total_tokens",
        "--context-length": "context_length",
        "--disable-radix-cache": "radix_cache",
        "--page-size": "page_size",
        "--attention-backend": "attention_backend",
    }
)
#: Flags with a value of the product's that an option may replace: nothing that is swept or computed depends on it.
REPLACEABLE = frozenset(
    {"--disaggregation-transfer-backend", "--dist-timeout", "--watchdog-timeout", "--mm-feature-transport"}
)
#: Name of the finding for a flag that the product sets, too.
REPEATED = "repeated-flag"
_DRAFT_TOKENS = "--speculative-num-draft-tokens"


def option_findings(field: str, options: Sequence[str], spec: DeploymentSpec, *, dynamo: bool) -> list[Finding]:
    """Findings about ``options`` on every worker of ``spec``; ``field`` names the setting that holds them."""
    version = spec.engine_version or sglang_versions.DEFAULT_VERSION
    if not options or sglang_versions.version_finding(version):
        return []
    outdated = outdated_flag_findings(field, options, version)
    if outdated:
        return outdated
    try:
        parsed = parse(options, version, dynamo=dynamo)
    except OptionError as error:
        return [_refused(field, options, version, error)]
    drafts = (f for worker in spec.workers for f in _drafts(field, parsed, worker))
    return [*_repeated(field, parsed, spec), *_replaced(field, parsed), *drafts]


def worker_option_findings(spec: DeploymentSpec, *, dynamo: bool) -> list[Finding]:
    """Findings about the flags that each worker of ``spec`` has of its own."""
    return [
        finding
        for worker in spec.workers
        for finding in option_findings(_field(worker), worker.options, spec.changed(workers=(worker,)), dynamo=dynamo)
    ]


def unused_option_findings(spec: DeploymentSpec) -> list[Finding]:
    """Warnings for flags of workers whose engine takes none."""
    return [
        Finding(
            field=_field(worker),
            value=" ".join(worker.options),
            rule=f"engine {spec.engine} has no such flags and leaves them aside",
            suggestion="Leave them out",
            severity="warning",
            id="unused-options",
        )
        for worker in spec.workers
        if worker.options
    ]


def _field(worker: WorkerSpec) -> str:
    """The parameter that holds the worker's own flags; an aggregated worker has those of both roles."""
    return f"{'decode' if worker.role == 'aggregated' else worker.role}_engine_options"


def _drafts(field: str, parsed: Options, worker: WorkerSpec) -> Iterator[Finding]:
    """A warning where speculative decoding dispatches more tokens of a captured batch than DeepEP's buffers hold."""
    knobs, drafts = worker.knobs, int(parsed.get(_DRAFT_TOKENS) or 1)
    batch, room = knobs.cuda_graph_max_bs or 0, sglang_flags.dispatch_tokens(knobs)
    if knobs.deepep_mode not in ("low_latency", "auto") or batch * drafts <= room:
        return
    rule = (
        f"a captured batch of {batch} requests with {drafts} draft tokens each dispatches {batch * drafts} tokens per "
        f"rank of {worker.role}, and DeepEP's buffers hold {room} (sgl-project/sglang issue 29942)"
    )
    works = f"a cuda_graph_max_bs of at most {room // drafts}"
    if batch * drafts <= sglang_defaults.MAX_DISPATCH_TOKENS:
        works += f", or decode_deepep_dispatch_tokens {batch * drafts}"
    yield Finding(
        field=field, value=drafts, rule=rule, suggestion=f"Use {works}", severity="warning", id="draft-tokens"
    )


def _refused(field: str, options: Sequence[str], version: str, error: OptionError) -> Finding:
    flags = [o.partition("=")[0] for o in options if o.startswith("--")]
    near = [match for flag in flags if flag in str(error) for match in _near(flag)]
    return Finding(
        field=field,
        value=" ".join(options),
        rule=f"the argument parser of SGLang {version} refuses it: {error}",
        suggestion=f"Did you mean {near[0]}?" if near else "Leave it out, or use a flag of that version",
    )


def _near(flag: str) -> list[str]:
    return difflib.get_close_matches(flag.replace("_", "-"), MANAGED, n=1, cutoff=0.8)


def _repeated(field: str, parsed: Options, spec: DeploymentSpec) -> Iterator[Finding]:
    managed = {**MANAGED, **{flag: f"the parameter {knob}" for flag, knob in ON_REQUEST.items() if _given(spec, knob)}}
    for flag, value in parsed.items():
        own = next((spelling for spelling in parsed.spellings(flag) if spelling in managed), None)
        if own is not None:
            rule = f"the product sets {own} itself, or leaves it out on purpose: every trial would have the same value"
            works = f"Use {managed[own]}"
            yield Finding(field=field, value=f"{flag} {value}", rule=rule, suggestion=works, id=REPEATED)


def _given(spec: DeploymentSpec, knob: str) -> bool:
    default = Knobs.model_fields[knob].default
    return any(getattr(worker.knobs, knob) != default for worker in spec.workers)


def _replaced(field: str, parsed: Options) -> Iterator[Finding]:
    for flag in parsed:
        if flag in REPLACEABLE:
            yield Finding(
                field=field,
                value=f"{flag} {parsed[flag]}",
                rule="it replaces the value that the product sets",
                suggestion="Nothing has to be done if that is meant",
                severity="warning",
                id="replaced-flag",
            )
