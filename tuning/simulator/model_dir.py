"""Make a model directory without weights: enough for a tokenizer, a frontend and a mocker.

    python -m tuning.simulator.model_dir --config manifests/models/DeepSeek-R1/config.json --out DIR

The tokenizer is a byte-level BPE trained on the standard library's own source, so nothing is
downloaded and the same Python writes the same files. The directory says that it is simulated.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

VOCAB = 4096
BOS, EOS = "<|begin|>", "<|end|>"
#: The modules the tokenizer is trained on: fixed, so that two runs agree; large enough for VOCAB merges.
CORPUS = ("argparse.py", "ast.py", "datetime.py", "decimal.py", "inspect.py", "logging/__init__.py", "subprocess.py")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
MARKER = "SIMULATED"


def make(config_file: Path, out: Path) -> Path:
    """Write the directory ``out`` for the model that ``config_file`` describes; returns ``out``.

    The model's own config.json is kept as it is, but for the vocabulary: ``vocab_size`` stays that of
    the real model (the memory model reads it), while end-of-sequence is the small tokenizer's own.

    Raises:
        OSError, ValueError: the config cannot be read or the directory not be written.
    """
    config: dict[str, Any] = json.loads(config_file.read_text())
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = _train()
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    tokenizer.save(str(out / "tokenizer.json"))
    _write(out / "config.json", {**config, "bos_token_id": bos, "eos_token_id": eos})
    _write(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "chat_template": CHAT_TEMPLATE,
            "model_max_length": config.get("max_position_embeddings", 4096),
        },
    )
    _write(out / "generation_config.json", {"bos_token_id": bos, "eos_token_id": eos})
    (out / MARKER).write_text("No weights here: this directory serves the simulated engine only.\n")
    return out


def _train() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def _corpus() -> Iterator[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for name in CORPUS:
        yield (root / name).read_text(encoding="utf-8")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the model's config.json")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    args = parser.parse_args(argv)
    print(make(args.config, args.out))


if __name__ == "__main__":
    main()
