"""The config of a model on the Hugging Face hub, fetched once and kept on this host.

What is kept decides about fingerprints of measurements, so it is not fetched again: delete its folder to have a newer
one.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.hub import HubModel, hub_endpoint
from wideloop.manifests.model_files import INDEX, HubAnswer, hub_answer

#: ``owner/name``, as the hub allows it.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
#: Folder of fetched configs in this project's home.
CONFIGS = "hub-configs"
_FILES = ("hf_quant_config.json", "config.json")


def is_hub_id(name: str) -> bool:
    """Whether ``name`` may be a repository's name on the hub."""
    return _HUB_ID.fullmatch(name) is not None


def hub_folder(source: HubModel) -> Path:
    """The folder with the config of ``source``, and an index that states the size of its weights.

    Raises:
        Refused: the hub does not give it.
    """
    home = Path(os.environ.get("WIDELOOP_HOME") or Path.home() / ".wideloop")
    name = source.repository.replace("/", "--") + (f"-{source.revision[:12]}" if source.revision else "")
    folder = home / CONFIGS / name
    if not (folder / "config.json").is_file():
        try:
            _fetch(source, folder)
        except HubAnswer as answer:
            raise Refused([_finding(source, str(answer))]) from answer
        except OSError as error:
            raise Refused([_finding(source, f"its config cannot be kept in {folder}: {error}")]) from error
    return folder


def _fetch(source: HubModel, folder: Path) -> None:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    endpoint = hub_endpoint()
    try:
        info = HfApi(endpoint=endpoint).model_info(source.repository, revision=source.revision, files_metadata=True)
        folder.mkdir(parents=True, exist_ok=True)
        weights = [f for f in info.siblings or () if f.rfilename.endswith(".safetensors") and "/" not in f.rfilename]
        index: dict[str, Any] = {"metadata": {"total_size": sum(f.size or 0 for f in weights)}, "commit": info.sha}
        (folder / INDEX).write_text(json.dumps(index))
        names = {f.rfilename for f in info.siblings or ()}
        # The config last: with it the folder counts as complete.
        for name in (n for n in _FILES if n in names):
            path = hf_hub_download(source.repository, name, revision=info.sha, endpoint=endpoint)
            partial = folder / f".{name}.{os.getpid()}"
            partial.write_bytes(Path(path).read_bytes())
            partial.rename(folder / name)
    except OSError as error:
        if isinstance(error, EntryNotFoundError) or getattr(error, "response", None) is not None or not error.errno:
            raise hub_answer(source.repository, error) from error
        raise
    except Exception as error:  # The exception class of its HTTP client differs between versions.
        raise hub_answer(source.repository, error) from error
    if "config.json" not in names:
        raise HubAnswer(f"{source.repository} on the hub has no config.json", passing=False)


def _finding(source: HubModel, rule: str) -> Finding:
    return Finding(
        field="model",
        value=source.repository,
        rule=rule,
        suggestion="Check the name, HF_TOKEN and HF_ENDPOINT, or give a directory with the model's config.json",
    )
