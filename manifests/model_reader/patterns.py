"""Names of matrices as quantisation blocks list them: exact, with wildcards, as expressions, or a part of the name.

Families call the same matrix differently, and exporters write other prefixes than loaders: a matrix has several names.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator

from wideloop.manifests.model_reader.keys import Keys

#: Names for one part of a layer, this project's first.
_SAME = (
    ("self_attn", "attn", "attention", "linear_attn", "mixer", "mamba"),
    ("mlp", "block_sparse_moe", "feed_forward", "ffn", "mixer", "moe"),
    ("shared_experts", "shared_expert", "shared_mlp", "share_expert"),
)
_PREFIX = re.compile(r"^(?:(?:model|language_model|backbone|transformer|text_model)\.)+")
_PREFIXES = ("", "model.", "language_model.model.", "model.language_model.", "backbone.")
#: Patterns with more are not written by any exporter, and could be made to take forever.
_MOST = 300_000
_LONGEST = 300
#: A repetition of a repetition: matching takes time exponential in the name's length.
_NESTED = re.compile(r"\([^()]*[*+][^()]*\)\s*[*+{]|[*+]\)+[*+{]")


def names_of(name: str) -> list[str]:
    """All names of a matrix, without the prefix before ``layers``."""
    names = [name]
    for same in _SAME:
        first = same[0]
        heads = [n for n in names if re.search(rf"(^|\.){first}(\.|$)", n)]
        names += [re.sub(rf"(^|\.){first}(\.|$)", rf"\g<1>{other}\g<2>", n) for n in heads for other in same[1:]]
    return names


class Patterns:
    """A list of patterns of names.

    Args:
        listed: as the quantisation block has it.
    """

    def __init__(self, keys: Keys, key: str, listed: object) -> None:
        entries = [] if listed is None else listed
        if isinstance(entries, str):
            entries = [entries]
        if (
            not isinstance(entries, list | tuple)
            or len(entries) > _MOST
            or not all(isinstance(e, str) for e in entries)
        ):
            keys.refuse(f"its quantisation has a {key} that is no list of names")
        entries = [e for e in entries if len(e) <= _LONGEST]
        self._plain = {_PREFIX.sub("", e).removesuffix(".weight") for e in entries if not _is_pattern(e)}
        self._expressions = list(_expressions(keys, key, entries))

    def match(self, name: str) -> bool:
        """Whether a pattern means the matrix ``name`` or what contains it."""
        if not self._plain and not self._expressions:
            return False
        for other in names_of(name):
            parts = other.split(".")
            # "gate" and "self_attn" mean every matrix with that part; "layers.0.mlp" everything below it.
            if any(
                ".".join(parts[i:j]) in self._plain for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)
            ):
                return True
            if any(e.match(prefix + other) for e in self._expressions for prefix in _PREFIXES):
                return True
        return False


def _is_pattern(entry: str) -> bool:
    return entry.startswith("re:") or "*" in entry or "?" in entry


def _expressions(keys: Keys, key: str, entries: Iterable[str]) -> Iterator[re.Pattern[str]]:
    """One expression for all wildcards, one for each other pattern."""
    wild = [e for e in entries if _is_pattern(e) and not e.startswith("re:")]
    if wild:
        yield re.compile("|".join(f"(?:{fnmatch.translate(w)})|(?:{fnmatch.translate(w + '.*')})" for w in wild))
    for entry in entries:
        if entry.startswith("re:"):
            if _NESTED.search(entry):
                keys.refuse(f"its quantisation has a {key} with {entry[:60]!r}, which may take for ever to match")
            try:
                yield re.compile(entry[3:])
            except re.error:
                keys.refuse(f"its quantisation has a {key} with {entry[:60]!r}, which is no regular expression")
