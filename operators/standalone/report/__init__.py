"""What a cycle found, as tables for people (report.md) and as data (report.json, measured rows as CSV)."""

from wideloop.operators.standalone.report.write import write_report

__all__ = ["write_report"]
