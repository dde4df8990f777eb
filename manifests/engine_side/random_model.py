r"""Make a model directory without weights: config and tokenizer; the engine draws the weights when it starts.

    python -m wideloop.manifests.engine_side.random_model \
        --config manifests/models/Random-Qwen3-MoE-8L/config.json --out DIR

Writing and reading a real checkpoint of such a size takes minutes. The duration of a step does not depend on the
weights' values, but on which experts tokens go to; ``random_weights`` makes that distribution uneven.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from wideloop.manifests.engine_side import tokenizer

#: Key in config.json that holds the arguments of ``random_weights.fill``.
KEY = "random_router"
#: File that marks a model directory without weights, which the engine has to draw.
MARKER = "RANDOM_WEIGHTS"


def make(config_file: Path, out: Path) -> Path:
    """Write the directory ``out`` for the model that ``config_file`` describes; returns ``out``.

    Raises:
        OSError, ValueError: the config cannot be read or the directory not be written.
    """
    config = json.loads(config_file.read_text())
    out.mkdir(parents=True, exist_ok=True)
    special = tokenizer.write(out, config["vocab_size"], config["max_position_embeddings"])
    (out / "config.json").write_text(json.dumps({**config, **special}, indent=2) + "\n")
    (out / MARKER).write_text("No weights here: SGLang draws them when it starts (--load-format dummy).\n")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the model's config.json")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    args = parser.parse_args(argv)
    print(make(args.config, args.out))


if __name__ == "__main__":
    main()
