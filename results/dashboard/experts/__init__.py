"""The experts' page of a cycle: what was recorded, what placing it well is worth, and whether that was seen."""

from wideloop.results.dashboard.experts.routes import api, pages

__all__ = ["api", "pages"]
