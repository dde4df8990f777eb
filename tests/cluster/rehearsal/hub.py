"""A hub with DeepSeek-R1 at the commit that the product downloads: its configuration, and weights of some kilobytes."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wideloop.manifests import profiles
from wideloop.manifests.hub import hub_model
from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import Settings

from tests.tiny_hub import Hub, serving, tiny_model

MODEL = "DeepSeek-R1"
_SHARD_BYTES = 1000


@contextmanager
def model_hub(host: str) -> Iterator[Hub]:
    """Serve it at ``host``."""
    source = hub_model(MODEL)
    assert source.revision is not None
    with serving(Hub(source.repository, _files(), source.revision), host) as hub:
        yield hub


def _files() -> dict[str, bytes]:
    """The tokenizer is the simulated engine's, because the real one may not be copied here."""
    python = Settings().environments / "simulated" / "bin" / "python"
    config = profiles.model_config_path(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), "-m", "wideloop.tuning.simulator.model_dir", "--config", str(config), "--out", folder]
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        made = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return tiny_model(made["config.json"], _SHARD_BYTES) | made
