"""What the engine would refuse, or die of, although its parsers accept the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec

Parsed = Mapping[str, Any]
#: Rendezvous of a worker's ranks: the port that Dynamo's operator names.
_RANK_PORT = 29500
_SYSTEM_PORT = 9090
#: DeepEP's buffers hold at most so many tokens per rank.
_MOST_DISPATCH_TOKENS = 1024


def problems(parsed: Parsed, environment: Mapping[str, str], spec: DeploymentSpec) -> list[str]:
    """Everything that is wrong with a worker's pod; empty when the engine would start."""
    worker = spec.worker(role(parsed))
    found = [
        *_ranks(parsed, environment),
        *_ports(parsed, environment),
        *_model(parsed, environment),
        *_experts(parsed, environment, spec),
        *_disagreements(parsed, worker, spec),
    ]
    return list(found)


def role(parsed: Parsed) -> Any:
    """The worker's role by its command line."""
    mode = parsed["disaggregation_mode"]
    return "aggregated" if mode in (None, "null") else mode


def attention_dp(parsed: Parsed) -> int:
    """Ranks that serve requests of their own: 0.5.23 has a flag for it, before it was one of two."""
    return int(parsed.get("attn_dp_size") or 1) if "attn_dp_size" in parsed else int(parsed["dp_size"])


def _ranks(parsed: Parsed, environment: Mapping[str, str]) -> Iterator[str]:
    nodes, tp = int(parsed["nnodes"]), int(parsed["tp_size"])
    gpus = len([gpu for gpu in environment.get("NVIDIA_VISIBLE_DEVICES", "").split(",") if gpu])
    if nodes * gpus != tp:
        yield f"--tp-size {tp} with {nodes} node(s) of {gpus} GPU(s) each"
    if nodes > 1 and not str(parsed["dist_init_addr"] or "").endswith(f":{_RANK_PORT}"):
        yield f"--nnodes {nodes} with --dist-init-addr {parsed['dist_init_addr']}"
    if not 0 <= int(parsed["node_rank"]) < nodes:
        yield f"--node-rank {parsed['node_rank']} of {nodes}"
    for flag, parts in (("--ep-size", int(parsed["ep_size"])), ("attention DP", attention_dp(parsed))):
        if tp % parts:
            yield f"--tp-size {tp} does not divide by {flag} {parts}"


def _ports(parsed: Parsed, environment: Mapping[str, str]) -> Iterator[str]:
    if environment.get("DYN_SYSTEM_ENABLED") != "true" or environment.get("DYN_SYSTEM_PORT") != str(_SYSTEM_PORT):
        yield f"Dynamo's system server is not enabled at {_SYSTEM_PORT}, where the probes look"
    if parsed["disaggregation_mode"] == "prefill" and not parsed["disaggregation_bootstrap_port"]:
        yield "a prefill worker without --disaggregation-bootstrap-port"
    if parsed["host"] != "0.0.0.0":
        yield f"--host {parsed['host']} cannot be reached from other pods"


def _model(parsed: Parsed, environment: Mapping[str, str]) -> Iterator[str]:
    folder = Path(parsed["model_path"])
    if not folder.is_dir():
        if environment.get("HF_HUB_OFFLINE") == "1":
            yield f"--model-path {folder} is not there, and HF_HUB_OFFLINE forbids a download"
        return
    index = folder / "model.safetensors.index.json"
    if not (folder / "config.json").is_file() or not index.is_file():
        yield f"--model-path {folder} has no config.json or no index of its weights"
        return
    for shard in sorted(set(json.loads(index.read_text())["weight_map"].values())):
        if not (folder / shard).is_file():
            yield f"--model-path {folder} has no {shard}"


def _experts(parsed: Parsed, environment: Mapping[str, str], spec: DeploymentSpec) -> Iterator[str]:
    slots, ep = spec.model.num_experts + int(parsed["ep_num_redundant_experts"]), int(parsed["ep_size"])
    if slots % ep:
        yield f"{slots} experts with their copies do not divide by --ep-size {ep}"
    recording = parsed["expert_distribution_recorder_mode"] is not None and not parsed["enable_eplb"]
    if recording and not environment.get("SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR"):
        yield "the recorder has no SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR"
    if parsed["moe_a2a_backend"] == "deepep":
        yield from _deepep(parsed, environment)
    placement = parsed["init_expert_location"]
    if placement not in (None, "trivial"):
        yield from _placement(Path(placement), slots, spec.model.num_layers)


def _deepep(parsed: Parsed, environment: Mapping[str, str]) -> Iterator[str]:
    if int(parsed["ep_size"]) != int(parsed["tp_size"]):
        yield f"DeepEP with --ep-size {parsed['ep_size']} and --tp-size {parsed['tp_size']}"
    if parsed["deepep_mode"] == "normal":
        return
    tokens = int(environment.get("SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK", "128"))
    batch = int(parsed["cuda_graph_max_bs_decode"] or 0)
    if not batch <= tokens <= _MOST_DISPATCH_TOKENS:
        yield f"DeepEP dispatches {tokens} tokens per rank for CUDA graphs of {batch} requests"


def _placement(path: Path, slots: int, layers: int) -> Iterator[str]:
    if not path.is_file():
        yield f"--init-expert-location {path} is not in the pod"
        return
    table = json.loads(path.read_text())["physical_to_logical_map"]
    if len(table) != layers or {len(row) for row in table} != {slots}:
        yield f"--init-expert-location {path} has {len(table)} layers of {len(table[0])} slots, not {layers} of {slots}"


def _disagreements(parsed: Parsed, worker: WorkerSpec, spec: DeploymentSpec) -> Iterator[str]:
    """Where the command line says something else than the specification, by which the timing is made."""
    knobs, layout = worker.knobs, worker.layout
    pairs = {
        "served_model_name": (parsed["served_model_name"], spec.model.name),
        "nnodes": (int(parsed["nnodes"]), layout.nodes),
        "tp": (int(parsed["tp_size"]), layout.tp),
        "ep": (int(parsed["ep_size"]), layout.ep),
        "attention dp": (attention_dp(parsed), layout.dp),
        "redundant_experts": (int(parsed["ep_num_redundant_experts"]), knobs.redundant_experts),
        "mem_fraction_static": (parsed["mem_fraction_static"], knobs.mem_fraction_static),
        "DeepEP": (parsed["moe_a2a_backend"] == "deepep", knobs.deepep_mode is not None),
        "expert_placement": (parsed["init_expert_location"] in (None, "trivial"), knobs.expert_placement is None),
    }
    for name, (command_line, specification) in pairs.items():
        if command_line != specification:
            yield f"{name}: {command_line!r} on the command line, {specification!r} in the specification"
