"""The parameters of a run: their titles and help are the manual that the trigger form shows.

Every way in (form, REST, ``--conf``, request file) is checked against these. Rules between parameters are checked
where a :class:`~wideloop.operators.request.Request` is made of them, and against the target by the first task.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from wideloop.manifests.deployment import MAX_NAME, NAME_PATTERN, DeploymentSpec, Knobs, RecorderMode
from wideloop.manifests.parameters import Parameter, field_type
from wideloop.manifests.profiles import model_names
from wideloop.manifests.workload import MOST_REQUESTS, Slo, Workload
from wideloop.operators.request.engine_knobs import engine_parameters
from wideloop.results.statistics import LEAST_PAIRS, MOST_PAIRS
from wideloop.tuning.dimensions import DEFAULT_NAMES, DIMENSIONS
from wideloop.tuning.dimensions.form import SWEEP

_WHERE, _LOAD, _GOAL, _KNOBS = "Where and what", "Workload", "Objective (SLO)", "Default knobs"
_BUILD = "Image build"
_RECORDER, _EPLB, _DEPLOYMENT, _BY_SWEEP = "Expert recorder", "Expert balance (EPLB)", "Deployment", "Set by the sweep"

_Name = Annotated[str, Field(min_length=1)]
_Version = Annotated[str, Field(pattern="^([0-9]+[.][0-9]+[.0-9a-z]*)?$")]
_Quantity = Annotated[str, Field(pattern="^([1-9][0-9]*([.][0-9]+)?(m|[KMGT]i?)?)?$")]
_Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
_Seed = Annotated[int, Field(ge=0, lt=2**31)]

PLACE = (
    Parameter(
        "target",
        "Target",
        "Where engines run. local: processes of the Airflow host.",
        _WHERE,
        _Name,
        "local",
    ),
    Parameter(
        "engine",
        "Engine",
        "simulated: the real Dynamo frontend with disaggregated mock workers, timed by a performance "
        "model. Its results are marked as simulated everywhere; they are no measurements of hardware.",
        _WHERE,
        _Name,
        "simulated",
    ),
    Parameter(
        "engine_version",
        "Engine version",
        "Of the engine in the image, e.g. 0.5.21: its flags depend on it. Empty: the engine's default.",
        _WHERE,
        _Version | None,
        None,
    ),
    Parameter(
        "model",
        "Model",
        "A profile's name, a hub id such as moonshotai/Kimi-K2-Thinking, or the path of a directory with the model. "
        "Profiles: " + ", ".join(model_names()),
        _WHERE,
        _Name,
        "Qwen3-235B-A22B-FP8",
        form={"examples": list(model_names())},
    ),
    Parameter(
        "hardware",
        "Hardware profile",
        "GPU type, nodes, fabric, and how prefill and decode workers share them: a profile's name, one in the folder "
        "WIDELOOP_PROFILES, or the path of a YAML file.",
        _WHERE,
        _Name,
        "h100-8",
    ),
    Parameter(
        "client",
        "Load generator",
        "What sends the workload. Measurements of different load generators are not compared with each other.",
        _WHERE,
        _Name,
        "aiperf",
    ),
    Parameter(
        "accept",
        "Accepted warnings",
        "Names of warnings that this run need not repeat, e.g. untuned-kernel: the log and the page have them in "
        "brackets. Warnings stop nothing; what is certain to fail cannot be accepted.",
        _WHERE,
        tuple[_Name, ...],
        [],
        form={"items": {"type": "string"}},
    ),
)
WORKLOAD = (
    Parameter("isl", "Input length (ISL)", "Tokens per prompt.", _LOAD, field_type(Workload, "isl"), 2048),
    Parameter("osl", "Output length (OSL)", "Tokens per answer, enforced.", _LOAD, field_type(Workload, "osl"), 64),
    Parameter(
        "concurrency",
        "Concurrency levels",
        "Requests in flight, one level after the other. Trials use the highest level; the baseline and "
        "the repeats measure the whole curve.",
        _LOAD,
        field_type(Workload, "concurrency"),
        [16, 48],
    ),
    Parameter(
        "requests_per_slot",
        "Requests per slot",
        "Each concurrent slot sends this many requests at a level. More means less noise and more GPU time.",
        _LOAD,
        Annotated[int, Field(ge=2, le=MOST_REQUESTS)],
        3,
    ),
    Parameter(
        "warmup_requests",
        "Warm-up requests",
        "Sent first, with prompts of their own.",
        _LOAD,
        field_type(Workload, "warmup_requests"),
        8,
    ),
    Parameter("seed", "Seed", "Of prompts and sampler.", _LOAD, _Seed, 1),
    Parameter(
        "slo_ttft_p99_ms",
        "TTFT p99 limit (ms)",
        "Time to first token of 99 % of requests.",
        _GOAL,
        Annotated[field_type(Slo, "ttft_p99_ms"), Field(allow_inf_nan=False)],
        5000,
    ),
    Parameter(
        "slo_tpot_p99_ms",
        "TPOT p99 limit (ms)",
        "Time per output token of 99 % of requests.",
        _GOAL,
        Annotated[field_type(Slo, "tpot_p99_ms"), Field(allow_inf_nan=False)],
        100,
    ),
)
KNOBS = (
    Parameter(
        "redundant_experts",
        "Redundant experts",
        "Extra copies of hot experts, per role. (experts + redundant) must be divisible by EP; each further "
        "slot per GPU costs one expert of every layer in memory.",
        _KNOBS,
        field_type(Knobs, "redundant_experts"),
        0,
    ),
    Parameter(
        "mem_fraction_static",
        "Memory fraction (decode)",
        "Share of GPU memory for weights and KV cache. Empty: the engine's own choice.",
        _KNOBS,
        field_type(Knobs, "mem_fraction_static"),
        None,
    ),
    Parameter(
        "cuda_graph_max_bs",
        "CUDA-graph max batch (decode)",
        "Largest batch per attention-DP rank that runs as a captured graph; larger ones run eagerly, "
        "several times slower. Empty: the engine's own choice.",
        _KNOBS,
        field_type(Knobs, "cuda_graph_max_bs"),
        None,
    ),
)
RECORDER = (
    Parameter(
        "recorder",
        "Recorder mode",
        "stat: counts of each pass, exact. stat_approx: the same from DeepEP's own dispatch (normal mode only). "
        "per_pass: a file of every rank. per_token: each token's experts, of models with top-k 8; slow and large.",
        _RECORDER,
        RecorderMode,
        "stat",
    ),
    Parameter(
        "recorded_passes",
        "Recorded passes",
        "Forward passes that stat keeps in GPU memory, the last ones; 70 kB each for DeepSeek-R1. -1: all.",
        _RECORDER,
        field_type(DeploymentSpec, "recorded_passes"),
        1000,
    ),
)
EPLB = (
    Parameter(
        "eplb",
        "Balance experts",
        "static: by a placement made from the recording, with the redundancy that the advice names. online: the "
        "engine rebalances while it serves, which stops it for a moment each time. Both against no balancing.",
        _EPLB,
        Literal["static", "online"],
        "static",
    ),
    Parameter(
        "eplb_rebalance_iterations",
        "Passes between rebalances",
        "Of online balancing.",
        _EPLB,
        field_type(Knobs, "eplb_rebalance_iterations"),
        1000,
    ),
)
_SWEEP = (
    Parameter(
        "trials",
        "Trials",
        "Configurations to try, the default among them.",
        SWEEP,
        Annotated[int, Field(ge=1, le=500)],
        8,
    ),
    Parameter(
        "max_gpu_hours",
        "GPU-hours, at most",
        "No trial is started that may take the trials beyond this, by the dearest one so far. Empty: no limit.",
        SWEEP,
        _Limit,
        None,
    ),
    Parameter(
        "max_hours",
        "Hours, at most",
        "No trial is started later than this after the first one. Empty: no limit.",
        SWEEP,
        _Limit,
        None,
    ),
    Parameter(
        "least_gain",
        "Least gain worth a trial",
        "The sweep ends when the best trial that is left is expected to gain less than this share, e.g. 0.005; from "
        "ten trials on. 0: it always makes all trials.",
        SWEEP,
        Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)],
        0.0,
    ),
    Parameter(
        "min_repeats",
        "Fewest pairs",
        "How often the best and the default are measured again at least, alternately, before anything is recommended.",
        SWEEP,
        Annotated[int, Field(ge=LEAST_PAIRS, le=MOST_PAIRS)],
        LEAST_PAIRS,
    ),
    Parameter(
        "repeats",
        "Most pairs",
        "Pairs are measured until the gain is decided, but not more than this. 0: none, and nothing is recommended.",
        SWEEP,
        Annotated[int, Field(ge=0, le=MOST_PAIRS)],
        MOST_PAIRS,
    ),
)
#: Of a run, not of its request: what it works on, for and with. None of them is part of a cycle's identity.
RUN_OPTIONS = (
    Parameter(
        "action",
        "Action",
        "up: preflight, apply, wait for a real generation. down: delete.",
        _DEPLOYMENT,
        Literal["up", "down"],
        "up",
    ),
    Parameter(
        "deployment",
        "Deployment",
        "Name of a running one, as wideep_deploy printed it.",
        _DEPLOYMENT,
        Annotated[str, Field(pattern=NAME_PATTERN, max_length=MAX_NAME)] | None,
        None,
    ),
    Parameter(
        "keep_hours",
        "Keep for (hours)",
        "The janitor removes it afterwards, so that no GPU is forgotten.",
        _DEPLOYMENT,
        Annotated[float, Field(gt=0, le=24 * 365)] | None,
        None,
        example=1,
    ),
    Parameter(
        "from_cycle",
        "Configuration of cycle",
        "Deploy exactly what this cycle recommends, or its trial below, with its expert placement. Model, hardware "
        "and knobs of the form do not count then; the target must be the cycle's.",
        _DEPLOYMENT,
        Annotated[str, Field(min_length=1)] | None,
        None,
    ),
    Parameter(
        "from_trial",
        "Trial of that cycle",
        "Empty: what the cycle recommends.",
        _DEPLOYMENT,
        Annotated[int, Field(ge=0)] | None,
        None,
    ),
    Parameter(
        "cycle_id",
        "Cycle",
        "Results and study belong to this cycle. Empty: a study of its own.",
        _BY_SWEEP,
        str | None,
        None,
    ),
    Parameter(
        "create",
        "Create first",
        "What is made where it is missing: namespace; hub_secret, from the connection WIDELOOP_HF_CONN_ID or from "
        "HF_TOKEN. The account needs rights for that which `wideloop rbac` does not grant.",
        _WHERE,
        tuple[Literal["namespace", "hub_secret"], ...],
        [],
        form={"examples": ["namespace", "hub_secret"]},
    ),
    Parameter(
        "build_args",
        "Build arguments",
        'Of the engine\'s image where it is built in the cluster, e.g. {"SGLANG_IMAGE_TAG": "v0.5.21", "DEEPEP_REF": '
        '"<commit>", "CUDA_ARCH_LIST": "9.0;10.0"}; they go before those of the settings.',
        _BUILD,
        dict[str, str],
        {},
    ),
    Parameter(
        "build_no_cache",
        "Build without cache",
        "Build every layer anew, also where the same inputs were built before.",
        _BUILD,
        bool,
        False,
    ),
    Parameter("build_cpu", "CPUs of the build", "E.g. 16. Empty: the setting's.", _BUILD, _Quantity | None, None, "16"),
    Parameter(
        "build_memory",
        "Memory of the build",
        "E.g. 64Gi; compiling DeepEP takes some 4 GiB per compiler (MAX_JOBS). Empty: the setting's.",
        _BUILD,
        _Quantity | None,
        None,
        "64Gi",
    ),
    Parameter("image", "Image digest", "Empty: verified again.", _BY_SWEEP, str | None, None),
    Parameter("model_path", "Model path", "Empty: verified again.", _BY_SWEEP, str | None, None),
    Parameter(
        "repeat_of",
        "Repeat of trial",
        "Measure a finished trial's configuration again instead of asking for a new one.",
        _BY_SWEEP,
        Annotated[int, Field(ge=0)] | None,
        None,
    ),
    Parameter(
        "repeat",
        "Number of the repeat",
        "Tells the repeats of one trial apart; those of the same number are compared.",
        _BY_SWEEP,
        Annotated[int, Field(ge=0)],
        0,
    ),
)


def sweep_parameters() -> tuple[Parameter, ...]:
    """How the optimiser searches, with the bounds of every registered dimension."""
    names = [d.name for d in DIMENSIONS]
    listed = "; ".join(f"{d.name}: {d.title}" for d in DIMENSIONS)
    dimensions = Parameter(
        "dimensions",
        "Knobs to vary",
        f"The dimensions of the search. {listed}. Prefill chunks are varied as soon as there are choices of them.",
        SWEEP,
        Annotated[tuple[str, ...], Field(min_length=1)],
        list(DEFAULT_NAMES),
        form={"items": {"type": "string", "enum": names}, "examples": names},
    )
    return (*_SWEEP, dimensions, *(p for d in DIMENSIONS for p in d.parameters))


def request_parameters() -> tuple[Parameter, ...]:
    """Everything that a request is made of."""
    return (*PLACE, *WORKLOAD, *KNOBS, *engine_parameters(), *RECORDER, *EPLB, *sweep_parameters())


def defaults() -> dict[str, Any]:
    """The request of a run that names nothing."""
    return {p.name: p.default for p in request_parameters()}
