"""What was sampled beside a load: read from the sampler's files, and summed up for each level."""

from wideloop.results.telemetry.figures import GpuFigures, LevelTelemetry, NetworkFigures
from wideloop.results.telemetry.level import level_telemetry
from wideloop.results.telemetry.samples import Samples, read_samples

__all__ = ["GpuFigures", "LevelTelemetry", "NetworkFigures", "Samples", "level_telemetry", "read_samples"]
