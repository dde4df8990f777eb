"""How numbers and times read on the page (Jinja filters)."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from jinja2 import Environment
from wideloop.results.dashboard.knobs import text

MISSING = "–"  # noqa: RUF001  an en dash is what a table shows for nothing


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
    """With a capital at its start and a full stop at its end."""
    return value[:1].upper() + value[1:] + ("" if value[-1:] in ".!?" else ".")


def after_colon(value: str) -> str:
    """What follows a label such as ``SIMULATED:`` that is drawn as a badge instead."""
    return sentence(value.partition(": ")[2])


def path_part(value: str) -> str:
    """A name as one part of a URL's path: run names hold ``+`` and ``:``."""
    return quote(value, safe="")


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
        knob=text,
    )
    environment.trim_blocks = environment.lstrip_blocks = True
