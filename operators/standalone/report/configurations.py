"""The configurations that were repeated, interleaved, each against the default with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wideloop.operators.standalone.report.balancedness import Balancedness
from wideloop.operators.standalone.report.rows import Row
from wideloop.operators.steps.trial import DEFAULT
from wideloop.results.records import Measurement
from wideloop.results.statistics import mean_and_interval, only_look, paired_gain
from wideloop.tuning.space import values_shown

_NAMES = {DEFAULT: "default", "placement": "placement only", "redundancy": "redundancy only"}
_NAMES_PLACED = _NAMES | {"redundancy": "placement and redundancy"}


def configurations(
    rows: Sequence[Row], best: int | None, balancedness: Mapping[str, Balancedness], searched: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One entry per repeated configuration, the default first; gains are paired by repeat.

    ``balancedness``: by deployment. ``searched``: names of the dimensions whose knobs the entries have.
    """
    repeated = [r for r in rows if r.purpose == "repeat" and r.measurement is not None]
    numbers = list(dict.fromkeys(r.trial_number for r in repeated if r.trial_number is not None))
    by_number = {n: [r for r in repeated if r.trial_number == n] for n in sorted(numbers)}
    default = next((rs for rs in by_number.values() if rs[0].kind == DEFAULT), [])
    entries = []
    for number, visits in by_number.items():
        even = balancedness.get(visits[0].name)
        entry = _entry(number, visits, default, best, searched)
        entries.append(entry | {"balancedness": even._asdict() if even else None})
    return entries


def _entry(
    number: int, visits: list[Row], default: list[Row], best: int | None, searched: Sequence[str]
) -> dict[str, Any]:
    first = visits[0]
    name = (_NAMES_PLACED if _placed(first) else _NAMES).get(first.kind, f"trial {number}")
    values = {r.repeat: m for r in visits if (m := r.measurement) is not None}
    of_default = {r.repeat: m for r in default if (m := r.measurement) is not None}
    pairs = sorted(values.keys() & of_default.keys())
    gain = None
    if visits is not default and len(pairs) > 1:
        own = [values[k].output_tok_s for k in pairs]
        gain = paired_gain(own, [of_default[k].output_tok_s for k in pairs], only_look(len(pairs)))._asdict()
    return {
        "name": f"tuned ({name})" if number == best and name == f"trial {number}" else name,
        "trial_number": number,
        "is_best": number == best,
        "knobs": {
            **first.worker.knobs.model_dump(exclude={"expert_placement"}),
            **values_shown(first.workers, searched),
            "placed": _placed(first),
        },
        "gain": gain,
        **{
            field: mean_and_interval([getattr(m, field) for m in values.values()])
            for field in ("output_tok_s", "output_tok_s_per_gpu", "ttft_ms_p50", "tpot_ms_p50", "tpot_ms_p99")
        },
        **{
            field: mean_and_interval([v for m in values.values() if (v := getattr(m, field)) is not None])
            for field in ("gpu_power_w", "output_tok_per_joule")
        },
        "start_s": mean_and_interval([r.start_s for r in visits if r.start_s is not None]),
        "capture_s": mean_and_interval([r.engine.capture_s for r in visits if r.engine.capture_s is not None]),
        "gpu_minutes": sum(r.gpu_minutes for r in visits),
        "engine": first.engine.model_dump(exclude_none=True),
        "eager_decode_passes": [r.engine.eager_decode_passes for r in visits],
        "client_delay": [_gate(m, "client_delay") for m in values.values()],
        "valid": all(m.valid for m in values.values()),
    }


def _placed(row: Row) -> bool:
    return row.worker.knobs.expert_placement is not None


def _gate(measurement: Measurement, name: str) -> float | None:
    return next((g.value for g in measurement.gates if g.name == name), None)
