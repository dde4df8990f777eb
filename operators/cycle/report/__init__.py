"""What a cycle found, as tables for people (report.md) and as data (report.json, measured rows as CSV)."""

from operators.cycle.report.write import write_report

__all__ = ["write_report"]
