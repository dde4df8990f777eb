"""The analysis of a role's recording, as stored with the cycle and drawn by the page. Layers count as in the model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """One number of redundant experts and what it gains and costs; see ``wideloop.tuning.advice.Option``."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    ep: int
    redundant: int
    placed: bool
    slots_per_gpu: int
    balance: float
    worst: float
    unseen: float
    gain: float
    gain_unseen: float
    experts_gib: float
    kv_displaced: int
    fits: bool
    dispatch_limit: int | None
    dispatch_ok: bool
    kernel: Literal["tuned", "default", "not_needed"]


class Advice(BaseModel):
    """The verdict for one expert-parallel size and the table behind it; the first row is the engine's own order."""

    model_config = ConfigDict(frozen=True)

    ep: int
    kind: Literal["off", "rearrange", "replicate"]
    text: str
    redundant: int
    reasons: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def possible(self) -> tuple[Row, ...]:
        """The rows up to the first that does not fit in memory: more redundancy never fits then."""
        first = next((i for i, row in enumerate(self.rows) if row.placed and not row.fits), len(self.rows))
        return self.rows[: first + 1]


class Replicated(BaseModel):
    """An expert with more than one slot, and its share of the layer's tokens over the mean expert's."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    layer: int
    expert: int
    replicas: int
    load: float


class GroupSizes(BaseModel):
    """Tokens per group of the grouped matrix product for one EP size, at the same tokens per GPU everywhere."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    ep: int
    experts_per_gpu: float
    p5: float
    median: float
    p95: float
    empty: float


class RoleReport(BaseModel):
    """One role's recording.

    Attributes:
        layers: those with experts. heat: load of each expert over its layer's mean, [layers, experts].
        over_time: the same by window for the least balanced layers: layer -> [windows, experts].
        balance_by_window: before and after placing, one figure per window.
        before, after, best: balance by layer in order, placed, and what no placement could exceed.
        ranks_before, ranks_after: rank loads over the mean of the layer that was least balanced.
        persistence: share of the hot experts of a window that are hot in the next; ``ordered``: windows are in time.
        note: what could not be analysed, and why.
        phase_of: the role of the worker, where this is of its prefill or its decode passes alone: how they fare with
            the placement made of all passes. phases: such reports of an aggregated worker, where its recording tells
            its passes apart.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    role: str
    simulated: bool
    provenance: dict[str, Any]
    tokens: int
    passes: int
    ep: int
    redundant: int
    layers: tuple[int, ...]
    experts: int
    heat: tuple[tuple[float, ...], ...]
    over_time: dict[int, tuple[tuple[float, ...], ...]]
    balance_by_window: tuple[tuple[float, ...], tuple[float, ...]]
    before: tuple[float, ...]
    after: tuple[float, ...]
    best: tuple[float, ...]
    worst_layer: int
    ranks_before: tuple[float, ...]
    ranks_after: tuple[float, ...]
    gini: float
    persistence: float | None
    ordered: bool
    sglang_balancedness: float
    replicated: tuple[Replicated, ...]
    group_sizes: tuple[GroupSizes, ...]
    advice: tuple[Advice, ...]
    note: str = ""
    phase_of: str | None = None
    phases: tuple[RoleReport, ...] = ()

    @property
    def own(self) -> Advice | None:
        """The advice for the size that was recorded."""
        return next((a for a in self.advice if a.ep == self.ep), None)
