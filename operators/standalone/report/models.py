"""What the memory and performance models say of every measured row, and how far off they are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from wideloop.manifests.hardware import HardwareProfile
from wideloop.tuning.calibration.loads import read_loads
from wideloop.tuning.calibration.timing import predict
from wideloop.tuning.memory import CONSTANTS
from wideloop.tuning.memory.measured import read_servers


def memory_errors(folder: Path, hardware: HardwareProfile) -> list[dict[str, Any]]:
    """By server that started: predicted minus measured, GiB per GPU; and whether its fate was foreseen."""
    found = []
    for server in read_servers(folder):
        said = server.predicted(hardware.gpu, CONSTANTS)
        row: dict[str, Any] = {"run": server.name.partition(" ")[2], "foreseen": said.face or "fits"}
        row["outcome"] = server.outcome
        for field, ours, theirs in (
            ("weights", said.weights_gib, server.weights_gib),
            ("kv", said.kv_gib, server.kv_gib),
            ("graphs", said.graphs_gib, server.graph_gib),
            ("free", said.free_at_ready_gib, server.free_gib),
        ):
            row[f"{field}_gib"] = theirs
            row[f"{field}_error_gib"] = None if theirs is None else ours - theirs
        found.append(row)
    return found


def performance_errors(folder: Path, hardware: HardwareProfile) -> list[dict[str, Any]]:
    """By load: output tokens/s predicted and measured, and predicted over measured minus one.

    Empty where servers do not tell of themselves what the prediction needs (the simulated engine).
    """
    with (folder / "servers.csv").open(newline="") as file:
        if any(row["graph_capture_s"] == "" and row["outcome"] == "ready" for row in csv.DictReader(file)):
            return []
    found = []
    for load in _readable(folder):
        said = predict(load, hardware)
        error = said / load.measured - 1
        name = load.server.name.partition(" ")[2]
        found.append({"run": name, "predicted": said, "measured": load.measured, "error": error})
    return found


def _readable(folder: Path) -> list[Any]:
    try:
        return read_loads(folder)
    except (FileNotFoundError, ValueError):
        return []
