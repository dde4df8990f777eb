"""The simulated engine is one of those that manifests are rendered for here."""

import wideloop.tuning  # noqa: F401
