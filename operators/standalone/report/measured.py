"""The measured rows in the format of ``tuning.memory.measured`` and ``tuning.calibration.loads``, for calibration."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from wideloop.manifests import profiles
from wideloop.operators.standalone.report.rows import Row

_SERVERS = (
    "call", "run", "model", "eplb_fix", "R", "init", "mem_fraction", "graph_max_bs", "chunked_prefill", "startup_s",
    "weight_gb", "kv_gb", "max_total_num_tokens", "graph_gb", "graph_capture_s", "avail_after_start_gb",
    "gpu_mib_ready", "gpu_mib_end", "alive_after", "ep", "routing", "kernels", "outcome",
)  # fmt: skip
_LOADS = (
    "call", "run", "model", "tag", "n", "conc", "isl", "osl", "out_tok_s", "in_tok_s",
    "ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p99",
)  # fmt: skip


def write_measured(folder: Path, call: str, model: str, rows: Sequence[Row], popularity: Any) -> None:
    """Write ``servers.csv``, ``loads.csv``, ``models/`` and ``popularity/`` into ``folder``.

    Args:
        call: first part of every row's name: which cycle it was.
        model: a profile's name or a model's directory.
        popularity: recorded tokens, [moe_layers, experts]; None when nothing was recorded.
    """
    name = profiles.model(model).name.replace("/", "--")
    (folder / "models").mkdir(parents=True, exist_ok=True)
    shutil.copy(profiles.model_config_path(model), folder / "models" / f"{name}.json")
    if popularity is not None:
        (folder / "popularity").mkdir(exist_ok=True)
        np.savetxt(folder / "popularity" / f"{name}.csv", popularity, fmt="%d", delimiter=",")
    _write(folder / "servers.csv", _SERVERS, [_server(row, call, name) for row in rows])
    loads = [_load(row, call, name) for row in rows if row.measurement is not None]
    _write(folder / "loads.csv", _LOADS, loads)


def _server(row: Row, call: str, model: str) -> dict[str, Any]:
    knobs, engine = row.worker.knobs, row.engine
    return {
        "call": call,
        "run": row.name,
        "model": model,
        "eplb_fix": 1,
        "R": knobs.redundant_experts,
        "init": "placed" if knobs.expert_placement else "trivial",
        "mem_fraction": knobs.mem_fraction_static,
        "graph_max_bs": knobs.cuda_graph_max_bs,
        "chunked_prefill": knobs.chunked_prefill_size,
        "startup_s": row.start_s,
        "weight_gb": engine.weights_gib,
        "kv_gb": engine.kv_gib,
        "max_total_num_tokens": engine.kv_tokens,
        "graph_gb": engine.graphs_gib,
        "graph_capture_s": engine.capture_s,
        "avail_after_start_gb": engine.free_at_start_gib,
        "gpu_mib_end": max(row.used_mib, default=None),
        "alive_after": "" if engine.kv_gib is None else row.measurement is not None,
        "ep": row.worker.layout.ep,
        "routing": "skewed",
        "kernels": "tuned",
        "outcome": "ready" if row.measurement is not None else row.reason,
    }


def _load(row: Row, call: str, model: str) -> dict[str, Any]:
    m = row.measurement
    assert m is not None
    return {
        "call": call,
        "run": row.name,
        "model": model,
        "tag": "trial",
        "n": m.requests,
        "conc": m.concurrency,
        "isl": m.isl,
        "osl": m.osl,
        "out_tok_s": round(m.output_tok_s, 1),
        "in_tok_s": round(m.input_tok_s, 1),
        "ttft_ms_p50": round(m.ttft_ms_p50, 1),
        "ttft_ms_p99": round(m.ttft_ms_p99, 1),
        "tpot_ms_p50": round(m.tpot_ms_p50, 2),
        "tpot_ms_p99": round(m.tpot_ms_p99, 2),
    }


def _write(file: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with file.open("w", newline="") as sink:
        writer = csv.DictWriter(sink, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
