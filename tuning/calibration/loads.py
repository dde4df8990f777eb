"""Loads that were measured on servers with real GPUs, read from CSV files.

The folder is that of :mod:`tuning.memory.measured`, whose ``servers.csv`` here also has ``init`` (``trivial`` or the
placement's name), ``eplb_fix`` (``0``: the engine ignored the placement when routing), ``routing`` (``skewed`` or
``uniform``), ``kernels`` (``tuned``, or ``default`` where a tuned kernel configuration was missing) and
``graph_capture_s``. ``loads.csv`` has one row per load: ``call, run, tag, conc, isl, osl, out_tok_s, in_tok_s,
tpot_ms_p50``; tags ``decode``, ``prefill`` and ``trial`` are used. ``steps.csv`` (:mod:`tuning.calibration.steps`) is
optional and has the same columns. ``popularity/<model>.csv`` has the recorded tokens per expert, one row per MoE layer.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from wideloop.tuning.memory.measured import Server, read_servers
from wideloop.tuning.placement import Placement, place, trivial

Floats = npt.NDArray[np.floating[Any]]
Kind = Literal["prefill", "decode", "step", "trial"]
#: Seconds of capture above which Triton was still compiling, then and under load.
_COLD_CAPTURE_S = 30.0


@dataclass(frozen=True, eq=False)
class Load:
    """One closed-loop load of one server, and its result.

    Attributes:
        kind: ``step`` is a single decode step, ``decode`` the time per output token that a client measured.
        measured: prompt tokens/s of ``prefill``, ms of ``decode`` and ``step``, output tokens/s of ``trial``.
        popularity: share of routed tokens, [moe_layers, experts].
        placed: whether experts were placed, not in the engine's own order.
    """

    server: Server
    kind: Kind
    concurrency: int
    isl: int
    osl: int
    measured: float
    popularity: Floats
    placement: Placement
    placed: bool

    @property
    def name(self) -> str:
        return f"{self.server.name} {self.kind}" + (f"@{self.concurrency}" if self.measured_in_ms else "")

    @property
    def alike(self) -> tuple[object, ...]:
        """A key that is equal for loads with equal predictions."""
        server, kv = self.server, self.server.kv_tokens if self.kind == "trial" else None
        call = server.name.partition(" ")[0]
        load = self.kind, self.concurrency, self.isl, self.osl, self.placed, self.evenly_routed
        return call, server.model.name, server.worker, kv, *load

    @property
    def measured_in_ms(self) -> bool:
        """Whether :attr:`measured` is a time, of which less is better."""
        return self.kind in ("decode", "step")

    @property
    def evenly_routed(self) -> bool:
        """Whether the engine was set to use all experts equally, so that no placement matters."""
        return bool(np.ptp(self.popularity) == 0)


def read_loads(folder: Path, name: str = "loads.csv") -> list[Load]:
    """The loads of all servers with warm caches and tuned kernels, which are those the model describes.

    Args:
        name: the file of ``folder`` that lists them.

    Raises:
        FileNotFoundError: a file is missing.
        KeyError: a column is missing.
    """
    with (folder / "servers.csv").open(newline="") as file:
        rows = {f"{row['call']} {row['run']}": row for row in csv.DictReader(file)}
    usable = {s.name: s for s in read_servers(folder) if s.ready and _comparable(rows[s.name])}
    with (folder / name).open(newline="") as file:
        loads = [
            _load(row, usable[server], rows[server], folder)
            for row in csv.DictReader(file)
            if (server := f"{row['call']} {row['run']}") in usable
        ]
    return [load for load in loads if load is not None]


def _comparable(row: dict[str, str]) -> bool:
    return row["kernels"] == "tuned" and float(row["graph_capture_s"]) < _COLD_CAPTURE_S


def _load(row: dict[str, str], server: Server, started: dict[str, str], folder: Path) -> Load | None:
    columns: dict[str, tuple[Kind, str]] = {
        "prefill": ("prefill", "in_tok_s"), "decode": ("decode", "tpot_ms_p50"), "step": ("step", "tpot_ms_p50"),
        "trial": ("trial", "out_tok_s"),
    }  # fmt: skip
    kind, column = columns.get(row["tag"], (None, ""))
    if kind is None or float(row[column] or 0) == 0:
        return None
    model, worker = server.model, server.worker
    popularity = _popularity(folder / "popularity" / f"{model.name}.csv")
    if started["routing"] == "uniform":
        popularity = np.full_like(popularity, 1 / model.num_experts)
    redundant, ep = worker.knobs.redundant_experts, worker.layout.ep
    placed = started["init"] != "trivial" and started["eplb_fix"] == "1"
    return Load(
        server=server,
        kind=kind,
        concurrency=int(row["conc"]),
        isl=int(row["isl"]),
        osl=int(row["osl"]),
        measured=float(row[column]),
        popularity=popularity,
        placement=place(popularity, ep, redundant)
        if placed
        else trivial(model.num_moe_layers, model.num_experts, redundant, ep),
        placed=placed,
    )


def _popularity(file: Path) -> Floats:
    counts = np.loadtxt(file, delimiter=",", ndmin=2)
    routed = counts[counts.sum(axis=1) > 0]  # A dense layer routes nothing.
    result: Floats = routed / routed.sum(axis=1, keepdims=True)
    return result
