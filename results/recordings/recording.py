"""A recorded expert distribution: tokens by role, window of time, layer and expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.hardware import Role

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExpertRecording:
    """What one worker's recorder counted; ``prefill`` and ``decode`` apart where that is known.

    Attributes:
        windows: by role [windows, layers, experts]: how often experts were chosen in windows of equally many forward
            passes. Dense layers are rows of zeros.
        passes: forward passes with tokens, by role.
        copies: how often each choice was counted: once per tensor-parallel rank where every rank sees every token.
        ordered: whether windows follow each other in time; unknown (False) for a ring buffer that has wrapped.
        provenance: origin of the recording: model, workload, engine, version, ranks, recorder mode ...
    """

    windows: Mapping[Role, Counts]
    passes: Mapping[Role, int]
    copies: int = 1
    ordered: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """Layers of the model, dense ones among them."""
        return int(next(iter(self.windows.values())).shape[1])

    @property
    def experts(self) -> int:
        return int(next(iter(self.windows.values())).shape[2])

    @cached_property
    def total(self) -> Counts:
        """Counts over the whole time and all roles, [layers, experts]."""
        total: Counts = np.sum([w.sum(axis=0) for w in self.windows.values()], axis=0)
        return total

    def of(self, role: Role) -> Counts:
        """Counts of one role, [layers, experts]."""
        counts: Counts = self.windows[role].sum(axis=0)
        return counts

    @cached_property
    def dense(self) -> tuple[int, ...]:
        """Layers that have no experts, or no traffic."""
        return tuple(int(i) for i in np.flatnonzero(~self.total.any(axis=1)))

    def tokens(self, top_k: int) -> int:
        """Tokens behind the counts: those of the busiest layer over ``top_k`` and :attr:`copies`."""
        return tokens(self.total, top_k, self.copies)


def tokens(counts: Counts, top_k: int, copies: int = 1) -> int:
    """Tokens behind ``counts`` [layers, experts]: those of the busiest layer over ``top_k``.

    ``copies`` is the expert-parallel size without an all-to-all back end, else 1.
    """
    return round(int(counts.sum(axis=1).max()) / (top_k * copies))


def merged(recordings: list[ExpertRecording]) -> ExpertRecording:
    """The sum of the recordings of several workers of one role, window by window.

    Raises:
        ValueError: there is none, or they are not of the same model.
    """
    if not recordings:
        raise ValueError("there is no recording to merge")
    first = recordings[0]
    if any((r.layers, r.experts, r.copies) != (first.layers, first.experts, first.copies) for r in recordings):
        raise ValueError("the recordings are not of the same model and layout")
    roles = {role for recording in recordings for role in recording.windows}
    windows: dict[Role, Counts] = {}
    for role in sorted(roles):
        of_role = [r.windows[role] for r in recordings if role in r.windows]
        fewest = min(len(w) for w in of_role)
        windows[role] = np.sum([_coarser(w, fewest) for w in of_role], axis=0)
    return ExpertRecording(
        windows=windows,
        passes={role: sum(r.passes.get(role, 0) for r in recordings) for role in windows},
        copies=first.copies,
        ordered=all(r.ordered for r in recordings),
        provenance=first.provenance,
    )


def _coarser(windows: Counts, count: int) -> Counts:
    return np.stack([part.sum(axis=0) for part in np.array_split(windows, count)])
