"""Make a model directory without weights: enough for a tokenizer, a frontend and a mocker.

    python -m wideloop.tuning.simulator.model_dir --config manifests/models/DeepSeek-R1/config.json --out DIR

The tokenizer is a byte-level BPE trained on the standard library's own source, so nothing is
downloaded and the same Python writes the same files. The directory says that it is simulated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wideloop.manifests.engine_side import tokenizer

#: Tokens of the made tokenizer.
VOCAB = 4096
MARKER = "SIMULATED"


def make(config_file: Path, out: Path) -> Path:
    """Write the directory ``out`` for the model that ``config_file`` describes; returns ``out``.

    The model's config.json is kept except for the vocabulary: ``vocab_size`` stays that of
    the real model (the memory model reads it), while end-of-sequence is the small tokenizer's own.

    Raises:
        OSError, ValueError: the config cannot be read or the directory not be written.
    """
    config: dict[str, Any] = json.loads(config_file.read_text())
    out.mkdir(parents=True, exist_ok=True)
    special = tokenizer.write(out, VOCAB, config.get("max_position_embeddings", 4096))
    (out / "config.json").write_text(json.dumps({**config, **special}, indent=2) + "\n")
    (out / MARKER).write_text("No weights here: this directory serves the simulated engine only.\n")
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
