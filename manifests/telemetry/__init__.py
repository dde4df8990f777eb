"""Telemetry beside a load: what is sampled, and the command that samples it next to a load generator.

A source is anything that the sampler can read from where the load generator runs: the driver's library (NVML) on the
same host, DCGM exporters and node exporters by their URLs, and the engines' own metrics pages. The sampler is a process
beside the load generator, not of Airflow, so that a benchmark is sampled whoever waits for it.
"""

from __future__ import annotations

from pathlib import Path

from wideloop.manifests.engines.base import Command
from wideloop.manifests.frozen import Frozen
from wideloop.manifests.telemetry import sampler

#: Folder of the samples among a load generator's files.
FOLDER = "telemetry"
SUFFIXES = (f"{FOLDER}/{sampler.SAMPLES_FILE}", f"{FOLDER}/{sampler.PAGES_FILE}")

#: The shell starts the sampler in the background, and then becomes the command.
_BESIDE = """\
mkdir -p "$2"
( python=$(command -v python3 || command -v python) && exec "$python" -I -S -c "$0" "$1" "$2" "$$" ) \\
  </dev/null >"$2/sampler.log" 2>&1 &
shift 2
exec "$@"
"""


class TelemetrySources(Frozen):
    """What can be sampled of one deployment.

    Attributes:
        gpus: UUIDs of the deployment's GPUs; none where they are not known.
        nvml: sample ``gpus`` by the driver's library, which is of the load generator's own host.
        dcgm: URLs of DCGM exporters' pages. A name of many addresses stands for all of them.
        node_exporter: URLs of node exporters' pages.
        pods: of the deployment; GPUs that an exporter assigns to other pods are left out.
        pages: URLs of the engine's metrics pages, by component.

    Example:
        >>> TelemetrySources(dcgm=("http://10.0.0.5:9400/metrics",)).is_empty
        False
    """

    gpus: tuple[str, ...] = ()
    nvml: bool = False
    dcgm: tuple[str, ...] = ()
    node_exporter: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    pages: dict[str, tuple[str, ...]] = {}

    @property
    def is_empty(self) -> bool:
        """There is nothing to sample."""
        return not (self.nvml or self.dcgm or self.node_exporter or self.pages)


def with_sampler(command: Command, sources: TelemetrySources, out_dir: str) -> Command:
    """``command`` with a sampler beside it that ends when it does; unchanged where there is nothing to sample.

    The command keeps its process id, its status and its signals.

    Args:
        out_dir: the load generator's folder; the samples lie in its sub-folder :data:`FOLDER`.
    """
    if sources.is_empty:
        return command
    script = Path(sampler.__file__).read_text()
    plan = sources.model_dump_json(exclude_defaults=True)
    argv = ("sh", "-c", _BESIDE, script, plan, f"{out_dir}/{FOLDER}", *command.argv)
    return Command(argv=argv, env=command.env)
