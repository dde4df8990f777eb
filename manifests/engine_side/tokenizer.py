"""A small tokenizer with a chat template, for model directories without one.

A byte-level BPE trained on the standard library's own source, so nothing is downloaded and the same Python writes
the same files.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BOS, EOS = "<|begin|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
#: Enough for 4096 tokens; a larger vocabulary is trained on every module of the top level.
_MODULES = ("argparse.py", "ast.py", "datetime.py", "decimal.py", "inspect.py", "logging/__init__.py", "subprocess.py")
_SMALL = 4096


def write(out: Path, vocab: int, max_length: int) -> dict[str, int]:
    """Write the tokenizer's files and the generation config into ``out``.

    Args:
        vocab: largest number of tokens; above 4096 the corpus decides how many there are.
        max_length: longest sequence that the model accepts, tokens.

    Returns:
        The special tokens' ids, under their names in config.json.
    """
    tokenizer = _train(vocab)
    special = {"bos_token_id": tokenizer.token_to_id(BOS), "eos_token_id": tokenizer.token_to_id(EOS)}
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": max_length,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps(special, indent=2) + "\n")
    return special


def _train(vocab: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(vocab), trainer)
    return tokenizer


def _corpus(vocab: int) -> Iterator[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [root / name for name in _MODULES] if vocab <= _SMALL else sorted(root.glob("*.py"))
    for file in files:
        yield file.read_text(encoding="utf-8", errors="replace")
