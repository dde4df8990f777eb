"""The report as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from wideloop.results.experts.comparison import Proof
from wideloop.tuning.dimensions import DIMENSIONS, Dimension


def markdown(report: dict[str, Any]) -> str:
    """All tables, and what stands above them."""
    parts = [_head(report), _proof(report["proof"]), _configurations(report), _trials(report)]
    parts += [_models(report), _cost(report["cost"])]
    return "\n\n".join(p for p in parts if p) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; cells are written as they are."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float | None, digits: int = 0) -> str:
    """A figure, or a dash for none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def interval(pair: Sequence[float] | None, digits: int = 0) -> str:
    """Mean and half-width; the mean alone where a single value says nothing of its scatter."""
    if pair is None:
        return "-"
    mean, half = pair
    return number(mean, digits) + (f" ± {number(half, digits)}" if math.isfinite(half) else "")


def _head(report: dict[str, Any]) -> str:
    simulated = " **SIMULATED**" if report["simulated"] else ""
    lines = [f"# Cycle {report['cycle_id']}{simulated}", f"{report['title']}; engine {report['engine']}."]
    rec = report["recommendation"]
    if rec:
        gain = f"gain {rec['gain']:+.1%} [{rec['gain_low']:+.1%}, {rec['gain_high']:+.1%}], {rec['pairs']} pairs"
        lines.append(f"**{rec['verdict']}**: {rec['reason']} ({gain}).")
    return "\n\n".join(lines)


def _proof(proof: dict[str, Any]) -> str:
    if not proof:
        return ""
    columns = ("role", "placement", "balancedness in order", "predicted", "recorded")
    proofs = {role: Proof.model_validate(document) for role, document in proof.items()}
    rows = [
        (role, p.reason, *(number(value, 3) for value in (p.before, p.predicted, p.measured)))
        for role, p in proofs.items()
    ]
    return "## Is the placement honoured?\n\n" + table(columns, rows)


def _configurations(report: dict[str, Any]) -> str:
    usual, further = _dimensions(report)
    powered = _has_power(report["configurations"])
    columns = [
        "configuration", *(d.short for d in usual), "balancedness", "output tok/s", "gain over default", "TTFT p50 ms",
        "TPOT p50 ms", "TPOT p99 ms", *(("tok/J", "GPU power W") if powered else ()),
        "weights / KV / graphs GiB", "start s", "capture s", "GPU-min", *(d.short for d in further),
    ]  # fmt: skip
    rows = []
    for c in report["configurations"]:
        knobs, engine, gain = c["knobs"], c["engine"], c["gain"]
        memory = " / ".join(number(engine.get(k), 2) for k in ("weights_gib", "kv_gib", "graphs_gib"))
        rows.append((
            c["name"], *_knobs(knobs, usual), _balancedness(c["balancedness"]), interval(c["output_tok_s"]),
            _gain(gain), interval(c["ttft_ms_p50"]), interval(c["tpot_ms_p50"], 1), interval(c["tpot_ms_p99"], 1),
            *((interval(c["output_tok_per_joule"], 2), interval(c["gpu_power_w"])) if powered else ()), memory,
            interval(c["start_s"], 1), interval(c["capture_s"], 1), number(c["gpu_minutes"], 1),
            *_knobs(knobs, further),
        ))  # fmt: skip
    return "## Configurations, repeated in turns\n\n" + table(columns, rows) if rows else ""


def _dimensions(report: dict[str, Any]) -> tuple[list[Dimension], list[Dimension]]:
    """The dimensions that every report shows, and what else its sweep varied.

    A report from before there was a list of what was varied has it where its trials differ.
    """
    varied = report.get("dimensions")
    if varied is None:
        varied = [d.name for d in DIMENSIONS if len({t[d.key] for t in report["trials"] if d.key in t}) > 1]
    usual = [d for d in DIMENSIONS if d.by_default]
    return usual, [d for d in DIMENSIONS if d.name in varied and d not in usual]


def _knobs(values: Mapping[str, Any], dimensions: Sequence[Dimension]) -> list[str]:
    return [knob_text(values.get(d.key)) for d in dimensions]


def knob_text(value: Any) -> str:
    """A knob's value; a dash where the engine chose it."""
    return number(value, 3) if value is None or isinstance(value, float) else str(value)


def _balancedness(figure: dict[str, Any] | None) -> str:
    return f"{number(figure['value'], 3)} ({figure['source']})" if figure else "-"


def _gain(gain: dict[str, float] | None) -> str:
    return f"{gain['gain']:+.1%} [{gain['low']:+.1%}, {gain['high']:+.1%}]" if gain else "-"


def _throughput(trial: dict[str, Any]) -> str:
    standard_error = trial.get("output_tok_s_se")
    return number(trial["output_tok_s"]) + ("" if standard_error is None else f" ± {number(standard_error)}")


def _has_power(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether GPUs were sampled; reports of older versions have no such figures."""
    return any(row.get("output_tok_per_joule") is not None for row in rows)


def _power(trial: dict[str, Any]) -> tuple[str, str, str]:
    """Tokens per joule, watts, and the GPUs' mean utilisation with its standard deviation over the GPUs."""
    mean, deviation = trial["utilisation"], trial["utilisation_sd"]
    scatter = "" if deviation is None else f" ± {deviation:.1%}"
    use = "-" if mean is None else f"{mean:.0%}{scatter}"
    return number(trial["output_tok_per_joule"], 2), number(trial["gpu_power_w"]), use


def _trials(report: dict[str, Any]) -> str:
    trials = report["trials"]
    usual, further = _dimensions(report)
    powered = _has_power(trials)
    estimated = any(t.get("output_tok_s_se") is not None for t in trials)
    columns = [
        "trial", "why", *(d.short for d in usual), "outcome",
        f"output tok/s{' ± standard error within the run' if estimated else ''}", "TPOT p50 ms",
        *(("tok/J", "GPU power W", "GPU use") if powered else ()),
        "KV tokens", "eager steps", "start s", "ours s", *(d.short for d in further),
    ]  # fmt: skip
    rows = [
        (
            t["number"], t["why"], *_knobs(t, usual), t["outcome"] + (f": {t['reason']}" if t["reason"] else ""),
            _throughput(t), number(t["tpot_ms_p50"], 1), *(_power(t) if powered else ()),
            number(t["kv_tokens"]), number(t["eager_decode_passes"]),
            number(t["start_s"], 1), number(t["ours_s"], 1), *_knobs(t, further),
        )
        for t in trials
    ]  # fmt: skip
    return "## Trials\n\n" + table(columns, rows)


def _models(report: dict[str, Any]) -> str:
    memory = [
        (
            m["run"], m["outcome"], m["foreseen"],
            *(_with_error(m, k) for k in ("weights", "kv", "graphs", "free")),
        )
        for m in report["memory_model"]
    ]  # fmt: skip
    timing = [
        (p["run"], number(p["measured"]), number(p["predicted"]), f"{p['error']:+.1%}")
        for p in report["performance_model"]
    ]
    columns = ("server", "outcome", "foreseen", "weights GiB (error)", "KV GiB", "graphs GiB", "free at ready GiB")
    text = "## The models against each row\n\n" + table(columns, memory)
    if timing:
        text += "\n\n" + table(("server", "output tok/s", "predicted", "error"), timing)
    return text


def _with_error(row: dict[str, Any], part: str) -> str:
    return f"{number(row[f'{part}_gib'], 2)} ({number(row[f'{part}_error_gib'], 2)})"


def _cost(cost: dict[str, Any]) -> str:
    return "## Cost\n\n" + table(("", ""), [(k.replace("_", " "), v) for k, v in cost.items()])
