"""What GPUs and network ports did during one level of concurrency. A figure that no source gave is None."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class GpuFigures(BaseModel):
    """One GPU: means over the stretch, but for the highest temperature.

    Attributes:
        gpu: its UUID, or host and index where the source has no UUID.
        utilisation: share of the time in which a kernel ran, 0 to 1; it says little of how full the GPU was.
        sm_active, tensor_active: share of cycles in which an SM had work, its tensor pipe was active; of DCGM alone.
        memory_gib: in use, by whatever process.
        power_w: by the energy counter where there is one.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    gpu: str
    host: str
    readings: int
    utilisation: float | None = None
    sm_active: float | None = None
    tensor_active: float | None = None
    memory_gib: float | None = None
    power_w: float | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None


class NetworkFigures(BaseModel):
    """All InfiniBand or RoCE ports of the nodes: bytes per second, and counts over the stretch."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    ports: int
    received_bytes_s: float
    sent_bytes_s: float
    errors: float
    link_downed: float


class LevelTelemetry(BaseModel):
    """A level: mean, scatter and sum over its GPUs.

    Attributes:
        seconds: length of the stretch, which is the plateau where the level has one.
        utilisation_sd: standard deviation over the GPUs of their mean utilisation: how unevenly the ranks work.
        memory_gib: of the GPU that uses most.
        power_w: of all GPUs; None unless it is known of each GPU of the deployment.
        note: why a figure is missing.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    seconds: float
    gpus: tuple[GpuFigures, ...] = ()
    utilisation: float | None = None
    utilisation_sd: float | None = None
    memory_gib: float | None = None
    power_w: float | None = None
    network: NetworkFigures | None = None
    note: str = ""
