"""The tables that are written, and that one group's section is replaced without touching another's."""

from tests.bench import table
from tests.bench.figure import Figure, parts


def figure(value: float, target: float | None = None) -> Figure:
    return Figure("parse", target, value, "CPU s", "median | of 3")


def test_a_row_says_whether_the_target_was_met() -> None:
    assert "| parse | ≤ 2 CPU s | 1.50 CPU s | yes |" in table.table([figure(1.5, 2)])
    assert "| parse | ≤ 2 CPU s | 2.01 CPU s | **no** |" in table.table([figure(2.01, 2)])
    assert "| parse |  | 3 CPU s |  |" in table.table([figure(3)])


def test_a_limit_of_nothing_is_met_by_nothing_only() -> None:
    assert figure(0, 0).met is True
    assert figure(1, 0).met is False


def test_what_a_figure_is_made_of_cannot_break_the_table() -> None:
    rows = table.table([figure(1)]).splitlines()
    assert "median \\| of 3" in rows[2]
    assert rows[1].count("|") == rows[0].count("|") == 6


def test_the_first_section_brings_the_title() -> None:
    document = table.replaced("", "parse", table.section("parse", "today", [figure(1)]))
    assert document.startswith("# What was measured")
    assert "today" in document
    assert document.endswith("<!-- /bench:parse -->\n")


def test_a_section_is_replaced_and_others_stay() -> None:
    document = table.replaced("", "parse", table.section("parse", "monday", [figure(1)]))
    document = table.replaced(document, "demo", table.section("demo", "tuesday", [figure(2)]))
    again = table.replaced(document, "parse", table.section("parse", r"\1 wednesday", [figure(3)]))
    assert r"\1 wednesday" in again
    assert "tuesday" in again
    assert "monday" not in again
    assert again.index("bench:parse") < again.index("bench:demo")
    assert again.count("<!-- bench:parse -->") == 1


def test_parts_are_named_and_carry_their_unit() -> None:
    assert parts({"ask": 0.94, "tell": 1.26}, "s") == "ask 0.9 s, tell 1.3 s"
    assert parts({"airflow": 1.357}, "GiB", 2) == "airflow 1.36 GiB"
