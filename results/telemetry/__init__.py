"""What was sampled beside a load: read from the sampler's files, and summed up for each level."""

from wideloop.results.telemetry.figures import GpuFigures, LevelTelemetry, NetworkFigures
from wideloop.results.telemetry.level import level_telemetry
from wideloop.results.telemetry.samples import Page, Samples, pages_around, read_pages, read_samples

__all__ = [
    "GpuFigures",
    "LevelTelemetry",
    "NetworkFigures",
    "Page",
    "Samples",
    "level_telemetry",
    "pages_around",
    "read_pages",
    "read_samples",
]
