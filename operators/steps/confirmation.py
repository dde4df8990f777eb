"""What the repeats of the best and of the default show so far, and how many more pairs are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wideloop.manifests.workload import Slo
from wideloop.operators.request import Request
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.operators.steps.trial import fails_requests, violations
from wideloop.results.failed_repeats import failed_repeats
from wideloop.results.records import Measurement
from wideloop.results.statistics import LEAST_PAIRS, Conclusion, PairedGain, conclude, is_decided, paired_gain


@dataclass(frozen=True)
class Confirmation:
    """The repeats of the best configuration and of the default.

    Attributes:
        best, default: valid measurements at the highest concurrency, by repeat.
        failures: why repeats of the best failed through its own fault, by repeat.
        slo_met: the best met the objective in every repeat that was measured.
    """

    best: dict[int, Measurement]
    default: dict[int, Measurement]
    failures: dict[int, str]
    slo_met: bool

    @property
    def pairs(self) -> list[int]:
        """The repeats that were measured on both sides."""
        return sorted(self.best.keys() & self.default.keys())

    @property
    def gain(self) -> PairedGain | None:
        """The gain over the pairs; None as long as there are too few of them."""
        if len(self.pairs) < LEAST_PAIRS:
            return None
        best, default = ([side[k].output_tok_s_per_gpu for k in self.pairs] for side in (self.best, self.default))
        return paired_gain(best, default)

    @property
    def disqualifies(self) -> bool:
        """Whether the best failed a repeat or missed the objective in one."""
        return bool(self.failures) or not self.slo_met

    def conclusion(self, most_pairs: int) -> Conclusion:
        """The verdict; ``most_pairs``: as many as the run may measure."""
        if self.failures:
            return Conclusion("keep default", self._failure_reason())
        if not self.slo_met:
            return Conclusion(
                "keep default", "the best configuration missed the service-level objective in its repeats"
            )
        if self.gain is None:
            measured = f"only {len(self.pairs)} pair(s) of repeats were measured"
            return Conclusion("inconclusive", f"{measured}; an interval needs at least {LEAST_PAIRS}")
        default = [self.default[k].output_tok_s_per_gpu for k in self.pairs]
        return conclude(self.gain, default, slo_met=self.slo_met, most_pairs=most_pairs)

    def _failure_reason(self) -> str:
        total = len(self.best.keys() | self.failures.keys())
        reasons = "; ".join(f"repeat {repeat}: {reason}" for repeat, reason in sorted(self.failures.items()))
        return f"{len(self.failures)} of {total} repeats of the best configuration failed ({reasons})"


def read_confirmation(request: Request, run: Run, best: int, default: int) -> Confirmation:
    """The repeats of trials ``best`` and ``default`` of this run's cycle."""
    with open_store() as store:
        repeats = store.measurements(cycle_id=run.cycle_id, purpose="repeat")
    level = max((m.concurrency for m in repeats), default=0)
    of_best, of_default = (
        [m for m in repeats if (m.trial_number, m.concurrency) == (n, level)] for n in (best, default)
    )
    valid = {m.repeat: m for m in of_best if m.valid}
    out_of_memory = {f.repeat: f.reason for f in failed_repeats(artefacts(), run.cycle_id) if f.trial_number == best}
    return Confirmation(
        best=valid,
        default={m.repeat: m for m in of_default if m.valid},
        failures=out_of_memory | _failed_requests(of_best, request.slo),
        slo_met=all(v <= 0 for m in valid.values() for v in violations(m, request.slo).values()),
    )


def rounds_wanted(request: Request, confirmation: Confirmation) -> int:
    """How many more pairs to measure before looking again: the fewest that were asked for, then one at a time."""
    if confirmation.disqualifies:
        return 0
    missing = request.min_repeats - len(confirmation.pairs)
    if missing > 0:
        return missing
    return 0 if confirmation.gain is not None and is_decided(confirmation.gain) else 1


def _failed_requests(measurements: Sequence[Measurement], slo: Slo) -> dict[int, str]:
    return {
        m.repeat: f"{m.error_rate:.1%} of its requests failed"
        for m in measurements
        if not m.valid and fails_requests(m, slo)
    }
