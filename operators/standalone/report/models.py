"""Predictions of the memory and performance models for every measured row, with their errors."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from wideloop.manifests.hardware import HardwareProfile
from wideloop.tuning.calibration.loads import read_loads
from wideloop.tuning.calibration.timing import predict
from wideloop.tuning.memory.measured import read_servers


def memory_errors(folder: Path, hardware: HardwareProfile) -> list[dict[str, Any]]:
    """By server: predicted minus measured, GiB per GPU, and the predicted and the real outcome."""
    rows = []
    for server in read_servers(folder):
        predicted = server.predicted(hardware.gpu)
        row: dict[str, Any] = {"run": server.name.partition(" ")[2], "foreseen": predicted.oom_stage or "fits"}
        row["outcome"] = server.outcome
        for field, expected, measured in (
            ("weights", predicted.weights_gib, server.weights_gib),
            ("kv", predicted.kv_gib, server.kv_gib),
            ("graphs", predicted.graphs_gib, server.graph_gib),
            ("free", predicted.free_at_ready_gib, server.free_gib),
        ):
            row[f"{field}_gib"] = measured
            row[f"{field}_error_gib"] = None if measured is None else expected - measured
        rows.append(row)
    return rows


def performance_errors(folder: Path, hardware: HardwareProfile) -> list[dict[str, Any]]:
    """By load: output tokens/s predicted and measured, and predicted over measured minus one.

    Empty for engines whose servers do not report what the prediction needs (the simulated engine).
    """
    with (folder / "servers.csv").open(newline="") as file:
        if any(row["graph_capture_s"] == "" and row["outcome"] == "ready" for row in csv.DictReader(file)):
            return []
    rows = []
    for load in _readable(folder):
        predicted = predict(load, hardware)
        error = predicted / load.measured - 1
        name = load.server.name.partition(" ")[2]
        rows.append({"run": name, "predicted": predicted, "measured": load.measured, "error": error})
    return rows


def _readable(folder: Path) -> list[Any]:
    try:
        return read_loads(folder)
    except (FileNotFoundError, ValueError):
        return []
