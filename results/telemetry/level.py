"""From readings to the figures of one level."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from wideloop.results.telemetry.figures import GpuFigures, LevelTelemetry, NetworkFigures
from wideloop.results.telemetry.samples import Samples

#: Fewer readings in a stretch say nothing of it: an exporter's may be of the time before.
MIN_READINGS = 2
#: Share of the stretch that the readings of an energy counter must span to stand for it.
_MIN_SPAN = 0.5
_MEANS = ("utilisation", "sm_active", "tensor_active", "memory_gib", "sm_clock_mhz")

Reading = dict[str, Any]


def level_telemetry(samples: Samples, begin: float, end: float, gpus: int) -> LevelTelemetry:
    """The figures of the stretch from ``begin`` to ``end``, seconds since the epoch.

    Args:
        gpus: how many the deployment has.

    Example:
        >>> reading = {"gpu": "GPU-1", "host": "a", "power_w": 500.0}
        >>> samples = Samples({"GPU-1": [{"t": t, **reading} for t in (1.0, 2.0, 3.0)]}, {})
        >>> level_telemetry(samples, 0.0, 4.0, gpus=1).power_w
        500.0
    """
    figures = [
        _gpu(stretch, end - begin)
        for readings in samples.gpus.values()
        if len(stretch := _within(readings, begin, end)) >= MIN_READINGS
    ]
    shares = [g.utilisation for g in figures if g.utilisation is not None]
    powers = [g.power_w for g in figures if g.power_w is not None]
    return LevelTelemetry(
        seconds=end - begin,
        gpus=tuple(sorted(figures, key=lambda g: (g.host, g.gpu))),
        utilisation=statistics.fmean(shares) if shares else None,
        utilisation_sd=statistics.pstdev(shares) if len(shares) > 1 else None,
        memory_gib=max((g.memory_gib for g in figures if g.memory_gib is not None), default=None),
        power_w=sum(powers) if len(powers) == len(figures) == gpus else None,
        network=_network(samples, begin, end),
        note=_note(samples, len(figures), len(powers), gpus),
    )


def _within(readings: Sequence[Reading], begin: float, end: float) -> list[Reading]:
    return [r for r in readings if begin <= r["t"] <= end]


def _gpu(readings: Sequence[Reading], seconds: float) -> GpuFigures:
    temperatures = [r["temperature_c"] for r in readings if "temperature_c" in r]
    return GpuFigures(
        gpu=readings[0]["gpu"],
        host=readings[0]["host"],
        readings=len(readings),
        power_w=_power(readings, seconds),
        temperature_c=max(temperatures, default=None),
        **{name: _mean(readings, name) for name in _MEANS},
    )


def _mean(readings: Sequence[Reading], name: str) -> float | None:
    values = [r[name] for r in readings if name in r]
    return statistics.fmean(values) if values else None


def _power(readings: Sequence[Reading], seconds: float) -> float | None:
    """By the energy counter, which misses nothing between two readings; else the mean of the readings."""
    counted = [r for r in readings if "energy_j" in r]
    if len(counted) >= MIN_READINGS:
        joules, span = (counted[-1][k] - counted[0][k] for k in ("energy_j", "t"))
        if joules > 0 and span >= _MIN_SPAN * seconds:
            return float(joules / span)
    return _mean(readings, "power_w")


def _network(samples: Samples, begin: float, end: float) -> NetworkFigures | None:
    """Differences of the counters over the stretch, of all ports that were read twice in it."""
    pairs = [
        (stretch[0], stretch[-1])
        for readings in samples.ports.values()
        if len(stretch := _within(readings, begin, end)) >= MIN_READINGS
    ]
    if not pairs:
        return None

    def grown(name: str, *, per_second: bool) -> float:
        total = 0.0
        for first, last in pairs:
            seconds = last["t"] - first["t"] if per_second else 1.0
            total += max(0.0, last.get(name, 0.0) - first.get(name, 0.0)) / seconds
        return total

    return NetworkFigures(
        ports=len(pairs),
        received_bytes_s=grown("received_bytes", per_second=True),
        sent_bytes_s=grown("sent_bytes", per_second=True),
        errors=grown("errors", per_second=False),
        link_downed=grown("link_downed", per_second=False),
    )


def _note(samples: Samples, read: int, with_power: int, gpus: int) -> str:
    reasons = [*samples.problems]
    if samples.gpus and read < gpus:
        reasons.append(
            f"{read} of {gpus} GPUs were read {MIN_READINGS} times or more: make levels longer, or exporters collect "
            "more often"
        )
    elif read > gpus:
        reasons.append(f"{read} GPUs were read and the deployment has {gpus}: which are its own is not known")
    elif with_power < read:
        reasons.append(f"{with_power} of {read} GPUs tell their power")
    return "; ".join(reasons)
