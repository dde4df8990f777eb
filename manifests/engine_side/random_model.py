r"""Make a model directory of a shape alone: config, tokenizer, and no weights, which the engine draws at its start.

    python -m wideloop.manifests.engine_side.random_model \
        --config manifests/models/Random-Qwen3-MoE-8L/config.json --out DIR

A real checkpoint of such a size would be written and read for minutes; how long a step takes does not depend on what
the weights are, but on which experts tokens go to: ``random_weights`` sees to that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from wideloop.manifests.engine_side import tokenizer

#: Key in config.json under which the arguments of ``random_weights.fill`` stand.
KEY = "random_router"
#: File in a model directory that says that its weights are to be drawn; there are none.
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
