"""The params of the DAGs: their titles and help are the manual that the trigger form shows.

Bounds that do not depend on other fields are JSON schema, so a wrong value is refused by the form and
by the REST API; rules between fields are checked by the first task.
"""

from __future__ import annotations

from typing import Any, get_args

from airflow.sdk import Param
from wideloop.manifests.clients import load_generator_names
from wideloop.manifests.deployment import MAX_NAME, NAME_PATTERN, RecorderMode
from wideloop.manifests.engines import engine_names
from wideloop.manifests.profiles import hardware_names, model_names
from wideloop.operators.request import DEFAULTS
from wideloop.operators.targets import target_names

_WHERE, _LOAD, _GOAL, _KNOBS, _SWEEP = "Where and what", "Workload", "Objective (SLO)", "Default knobs", "Sweep"
_RECORDER, _EPLB = "Expert recorder", "Expert balance (EPLB)"


def where() -> dict[str, Param]:
    """Target, engine, model, hardware and load generator."""
    return {
        "target": _param(
            "target",
            _WHERE,
            "Target",
            "Where engines run. local: processes of the Airflow host.",
            type="string",
            enum=list(target_names()),
        ),
        "engine": _param(
            "engine",
            _WHERE,
            "Engine",
            "simulated: the real Dynamo frontend with disaggregated mock workers, timed by a performance "
            "model. Its results are marked as simulated everywhere; they are no measurements of hardware.",
            type="string",
            enum=list(engine_names()),
        ),
        "engine_version": _param(
            "engine_version",
            _WHERE,
            "Engine version",
            "Of the engine in the image, e.g. 0.5.21: its flags depend on it. Empty: the engine's default.",
            type=["null", "string"],
            pattern="^[0-9]+[.][0-9]+[.0-9a-z]*$",
        ),
        "model": _param(
            "model",
            _WHERE,
            "Model",
            "A profile's name, or the path of a directory with the model's config.json. Profiles: "
            + ", ".join(model_names()),
            type="string",
            minLength=1,
            examples=list(model_names()),
        ),
        "hardware": _param(
            "hardware",
            _WHERE,
            "Hardware profile",
            "GPU type, nodes, fabric, and how prefill and decode workers share them.",
            type="string",
            enum=list(hardware_names()),
        ),
        "client": _param(
            "client",
            _WHERE,
            "Load generator",
            "What sends the workload. Measurements of different load generators are not compared with each other.",
            type="string",
            enum=list(load_generator_names()),
        ),
    }


def workload() -> dict[str, Param]:
    """The load and the objectives it is judged by."""
    return {
        "isl": _param("isl", _LOAD, "Input length (ISL)", "Tokens per prompt.", type="integer", minimum=1),
        "osl": _param("osl", _LOAD, "Output length (OSL)", "Tokens per answer, enforced.", type="integer", minimum=1),
        "concurrency": _param(
            "concurrency",
            _LOAD,
            "Concurrency levels",
            "Requests in flight, one level after the other. Trials use the highest level; the baseline and "
            "the repeats measure the whole curve.",
            type="array",
            items={"type": "integer", "minimum": 1},
            minItems=1,
        ),
        "requests_per_slot": _param(
            "requests_per_slot",
            _LOAD,
            "Requests per slot",
            "Each concurrent slot sends this many requests at a level. More means less noise and more GPU time.",
            type="integer",
            minimum=2,
        ),
        "warmup_requests": _param(
            "warmup_requests",
            _LOAD,
            "Warm-up requests",
            "Sent first, with prompts of their own.",
            type="integer",
            minimum=0,
        ),
        "seed": _param(
            "seed",
            _LOAD,
            "Seed",
            "Of prompts and sampler.",
            type="integer",
            minimum=0,
        ),
        "slo_ttft_p99_ms": _param(
            "slo_ttft_p99_ms",
            _GOAL,
            "TTFT p99 limit (ms)",
            "Time to first token of 99 % of requests.",
            type="number",
            exclusiveMinimum=0,
        ),
        "slo_tpot_p99_ms": _param(
            "slo_tpot_p99_ms",
            _GOAL,
            "TPOT p99 limit (ms)",
            "Time per output token of 99 % of requests.",
            type="number",
            exclusiveMinimum=0,
        ),
    }


def knobs() -> dict[str, Param]:
    """The configuration that everything is compared with."""
    return {
        "redundant_experts": _param(
            "redundant_experts",
            _KNOBS,
            "Redundant experts",
            "Extra copies of hot experts, per role. (experts + redundant) must be divisible by EP; each further "
            "slot per GPU costs one expert of every layer in memory.",
            type="integer",
            minimum=0,
        ),
        "mem_fraction_static": _param(
            "mem_fraction_static",
            _KNOBS,
            "Memory fraction (decode)",
            "Share of GPU memory for weights and KV cache. Empty: the engine's own choice.",
            type=["number", "null"],
            exclusiveMinimum=0,
            exclusiveMaximum=1,
        ),
        "cuda_graph_max_bs": _param(
            "cuda_graph_max_bs",
            _KNOBS,
            "CUDA-graph max batch (decode)",
            "Largest batch per attention-DP rank that runs as a captured graph; larger ones run eagerly, "
            "several times slower. Empty: the engine's own choice.",
            type=["integer", "null"],
            minimum=1,
        ),
    }


def recorder() -> dict[str, Param]:
    """How expert distributions are recorded."""
    return {
        "recorder": _param(
            "recorder",
            _RECORDER,
            "Recorder mode",
            "stat: counts of each pass, exact. stat_approx: the same from DeepEP's own dispatch (normal mode only). "
            "per_pass: a file of every rank. per_token: each token's experts, of models with top-k 8; slow and large.",
            type="string",
            enum=list(get_args(RecorderMode)),
        ),
        "recorded_passes": _param(
            "recorded_passes",
            _RECORDER,
            "Recorded passes",
            "Forward passes that stat keeps in GPU memory, the last ones; 70 kB each for DeepSeek-R1. -1: all.",
            type="integer",
            minimum=-1,
        ),
    }


def eplb() -> dict[str, Param]:
    """What the experts' own order is compared with."""
    return {
        "eplb": _param(
            "eplb",
            _EPLB,
            "Balance experts",
            "static: by a placement made from the recording, with the redundancy that the advice names. online: the "
            "engine rebalances while it serves, which stops it for a moment each time. Both against no balancing.",
            type="string",
            enum=["static", "online"],
        ),
        "eplb_rebalance_iterations": _param(
            "eplb_rebalance_iterations",
            _EPLB,
            "Passes between rebalances",
            "Of online balancing.",
            type="integer",
            minimum=1,
        ),
    }


def sweep() -> dict[str, Param]:
    """How the optimiser searches."""
    return {
        "trials": _param(
            "trials",
            _SWEEP,
            "Trials",
            "Configurations to try, the default among them.",
            type="integer",
            minimum=1,
            maximum=500,
        ),
        "repeats": _param(
            "repeats",
            _SWEEP,
            "Repeats",
            "How often the best and the default are measured again, interleaved, before anything is "
            "recommended. The interval of the gain needs at least 2.",
            type="integer",
            minimum=0,
            maximum=20,
        ),
        "max_redundant_slots": _param(
            "max_redundant_slots",
            _SWEEP,
            "Extra expert slots per GPU, at most",
            "More than the default configuration has. One more slot on each GPU is EP more redundant experts.",
            type="integer",
            minimum=1,
        ),
        "min_mem_fraction": _param(
            "min_mem_fraction",
            _SWEEP,
            "Memory fraction, at least",
            "Lower end of the search.",
            type="number",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
        ),
        "max_mem_fraction": _param(
            "max_mem_fraction",
            _SWEEP,
            "Memory fraction, at most",
            "Upper end. Configurations that run out of memory count as infeasible trials.",
            type="number",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
        ),
        "min_graph_bs": _param(
            "min_graph_bs",
            _SWEEP,
            "CUDA-graph max batch, at least",
            "Lower end of the search.",
            type="integer",
            minimum=1,
        ),
        "max_graph_bs": _param(
            "max_graph_bs",
            _SWEEP,
            "CUDA-graph max batch, at most",
            "Upper end of the search.",
            type="integer",
            minimum=2,
        ),
        "prefill_chunks": _param(
            "prefill_chunks",
            _SWEEP,
            "Prefill chunks",
            "Sizes of a prefill chunk to choose from, tokens of the whole worker, e.g. [8192, 16384]; the default's "
            "own is one of them. Empty: it stays what the engine chooses.",
            type="array",
            items={"type": "integer", "enum": [2**k for k in range(10, 20)]},
            uniqueItems=True,
        ),
    }


def deployment(help_text: str) -> Param:
    """The name of a deployment that exists; nothing that could be a path."""
    return Param(
        None,
        type=["string", "null"],
        pattern=NAME_PATTERN,
        maxLength=MAX_NAME,
        title="Deployment",
        description=help_text,
        section="Deployment",
    )


def everything() -> dict[str, Param]:
    """What the whole cycle takes."""
    return {**where(), **workload(), **knobs(), **recorder(), **sweep()}


def _param(name: str, section: str, title: str, help_text: str, **schema: Any) -> Param:
    return Param(DEFAULTS[name], title=title, description=help_text, section=section, **schema)
