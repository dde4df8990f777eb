"""Whether the files of a model are all there and whole, on disk and on the Hugging Face hub.

The standard library only, and huggingface_hub where the hub is asked: this file also runs as it is in a container that
fills a model cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
#: Any one of these is a tokenizer that engines read; Kimi's is ``tiktoken.model``, Mistral's ``tekken.json``.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "tekken.json", "vocab.json", "spiece.model")
#: Files of a repository that serving does not need. Other formats of the same weights would double the download.
IGNORED = ["original/*", "consolidated*", "*.pth", "*.bin", "*.gguf", "*.onnx", "figures/*", "*.h5", "*.msgpack"]
_NO_INDEX = "is no index of weight shards"
#: Answers of the hub that another try may change.
_PASSING = (408, 425, 429)


class Incomplete(Exception):
    """A file is missing or damaged; carries its path and the rule it breaks."""

    def __init__(self, path: Path, rule: str) -> None:
        self.path = path
        self.rule = rule
        super().__init__(f"{path} {rule}")


def check(folder: Path, *, needs_weights: bool) -> None:
    """Check every file that an engine needs.

    Raises:
        Incomplete: a file is missing, or contradicts its header or the index.
    """
    try:
        names = [p.name for p in folder.iterdir() if p.is_file()]
    except OSError as error:
        raise Incomplete(folder, f"cannot be read ({error.strerror})") from error
    missing = missing_kind(names, needs_weights=False)
    if missing:
        raise Incomplete(folder, missing)
    if needs_weights:
        for shard in shards(folder):
            _check_safetensors(folder / shard)


def missing_kind(names: Collection[str], *, needs_weights: bool) -> str:
    """What a model with files of these names lacks, as a rule; empty when there is one of each kind."""
    if "config.json" not in names:
        return "has no config.json"
    if not any(name in TOKENIZERS or name.endswith(".tiktoken") for name in names):
        return f"has no tokenizer.json, nor another tokenizer ({', '.join(TOKENIZERS[1:])})"
    if needs_weights and INDEX not in names and WEIGHTS not in names:
        return f"has no safetensors weights ({INDEX} or {WEIGHTS}): engines read no other format"
    return ""


def missing_shards(index: str | bytes, names: Collection[str]) -> str:
    """The shards that ``index`` names and ``names`` lack, as a rule; empty when there are none.

    Raises:
        ValueError: the text is no index.
    """
    try:
        listed = sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(_NO_INDEX) from error
    missing = [name for name in listed if name not in names]
    return f"lacks {len(missing)} of {len(listed)} weight shards, first {missing[0]}" if missing else ""


class HubAnswer(Exception):
    """The hub does not give a repository.

    Attributes:
        passing: whether another try may succeed.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        self.passing = passing
        super().__init__(message)


class Repository(NamedTuple):
    """Files of a repository that serving needs.

    Attributes:
        commit: of the files.
        sizes: bytes by name.
    """

    commit: str
    sizes: dict[str, int]


def list_repository(name: str, revision: str | None, **hub: Any) -> Repository:
    """List a repository and check by its names alone that it can be served, before anything large is downloaded.

    Args:
        hub: ``token`` and ``endpoint``, as huggingface_hub takes them.

    Raises:
        HubAnswer: the hub does not give it, or files are missing.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    try:
        info = HfApi(**hub).model_info(name, revision=revision, files_metadata=True)
        sizes = {f.rfilename: f.size or 0 for f in info.siblings or ()}
        sizes = {n: sizes[n] for n in filter_repo_objects(sizes, ignore_patterns=IGNORED)}
        missing = missing_kind(sizes, needs_weights=True)
        if not missing and INDEX in sizes:
            index = hf_hub_download(name, INDEX, revision=info.sha, **hub)
            missing = missing_shards(Path(index).read_bytes(), sizes)
    except ValueError as error:
        raise HubAnswer(f"{name} on the hub: {INDEX} {error}", passing=False) from error
    except Exception as error:  # The exception class of its HTTP client differs between versions.
        raise hub_answer(name, error) from error
    if missing:
        raise HubAnswer(f"{name} on the hub {missing}: it cannot be served", passing=False)
    return Repository(info.sha or revision or "", sizes)


def hub_answer(name: str, error: Exception) -> HubAnswer:
    """What an error of huggingface_hub about a repository means."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    token = os.environ.get("HF_TOKEN")
    if isinstance(error, GatedRepoError):
        text = f"{name} is gated: accept its licence on the hub with the account of the token in HF_TOKEN"
    elif isinstance(error, RevisionNotFoundError):
        text = f"{name} has no such revision on the hub"
    elif isinstance(error, RepositoryNotFoundError):
        text = (
            f"the hub has no {name}, or {'the token in HF_TOKEN may not see it' if token else 'there is no HF_TOKEN'}"
        )
    elif status == 401:
        text = f"the hub refuses the token in HF_TOKEN (401): it is wrong or has expired. Make a new one ({error})"
    elif status == 403:
        text = f"the token in HF_TOKEN may not read {name} (403): give it access to gated repositories ({error})"
    else:
        passing = status is None or status in _PASSING or status >= 500
        return HubAnswer(f"the hub does not answer for {name}: {type(error).__name__}: {error}", passing=passing)
    return HubAnswer(text, passing=False)


def shards(folder: Path) -> list[str]:
    """Names of the weight files, all of which exist.

    Raises:
        Incomplete: the index cannot be read, or names a file that is missing.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Incomplete(index, _NO_INDEX) from error
    else:
        names = [WEIGHTS]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise Incomplete(folder, f"lacks {len(missing)} of {len(names)} weight shards, first {missing[0]}")
    return names


def _check_safetensors(shard: Path) -> None:
    """A shard says in its header how long it must be: 8 bytes of length, the header, the last tensor's end."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        try:
            # In another kind of file these 8 bytes may be any number.
            header = json.loads(file.read(min(header_size, size)))
            end = max(t["data_offsets"][1] for name, t in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Incomplete(shard, "is no safetensors file, or a part of one") from error
    expected = 8 + header_size + end
    if size != expected:
        raise Incomplete(shard, f"has {size} bytes where its header says {expected}")


def measure(folder: Path) -> dict[str, int | bool]:
    """Number and bytes of a model's files, and whether weights are among them, without a downloader's own notes."""
    files = [p for p in folder.rglob("*") if p.is_file() and ".cache" not in p.relative_to(folder).parts]
    return {
        "files": len(files),
        "bytes": sum(p.stat().st_size for p in files),
        "has_weights": any(p.suffix == ".safetensors" for p in files),
    }
