"""Numbers, times and names as text on the page (Jinja filters)."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup
from wideloop.results.dashboard.knobs import text

MISSING = "–"  # noqa: RUF001  an en dash in a table: no value


def duration(seconds: float | None) -> str:
    """``42 s``, ``9 min 20 s``, ``3 h 05 min``."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def milliseconds(value: float | None) -> str:
    """``46.0 ms``, ``2,310 ms``: below 100 ms a decimal matters."""
    if value is None:
        return MISSING
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def percent(value: float | None) -> str:
    """A signed relative difference: ``+24.1 %``."""
    return MISSING if value is None else f"{value * 100:+.1f} %"


def moment(value: datetime | None) -> str:
    return MISSING if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def short(value: str, length: int = 12) -> str:
    """The start of a digest, after its algorithm's name."""
    return value.removeprefix("sha256:")[:length]


def sentence(value: str) -> str:
    """``value`` with a capital letter at its start and a full stop at its end."""
    return value[:1].upper() + value[1:] + ("" if value[-1:] in ".!?" else ".")


def after_colon(value: str) -> str:
    """The text after a label such as ``SIMULATED:``, which the page draws as a badge."""
    return sentence(value.partition(": ")[2])


def path_part(value: str) -> str:
    """A name quoted as one part of a URL's path: names of runs contain ``+`` and ``:``."""
    return quote(value, safe="")


#: Abbreviations of the page and what they mean.
TERMS = {
    "TTFT p50": "time to first token: median over the requests",
    "TTFT p99": "time to first token: 99 % of the requests are faster",
    "TPOT p50": "time per output token after the first: median over the requests",
    "TPOT p99": "time per output token after the first: 99 % of the requests are faster",
    "SLO": "service-level objective: the limits of latency and errors that the request names",
    "tok/s": "output tokens per second of the whole deployment",
    "tok/s/GPU": "output tokens per second, divided by all GPUs of the deployment",
    "tok/s/user": "output tokens per second that one user sees: 1000 / mean TPOT in ms",
    "GPU-min": "GPUs held x minutes held",
    "Gates": "conditions that a measurement must meet to be valid",
    "EP": "expert-parallel ranks: the number of GPUs that share the experts of a layer",
    "Interval": "95 % interval of the gain",
    "ISL": "input tokens of a request",
    "OSL": "output tokens of a request",
}


def term(name: str) -> Markup:
    """An abbreviation with its meaning as a hint."""
    return Markup('<abbr title="{}">{}</abbr>').format(TERMS[name], name)


def register(environment: Environment) -> None:
    environment.filters.update(
        duration=duration,
        number=number,
        milliseconds=milliseconds,
        percent=percent,
        moment=moment,
        short=short,
        path_part=path_part,
        sentence=sentence,
        after_colon=after_colon,
        term=term,
        meaning=TERMS.__getitem__,
        knob=text,
    )
    environment.trim_blocks = environment.lstrip_blocks = True
