"""Where the weights of a model profile come from: its repository on the Hugging Face hub, at one commit.

A branch may move between two downloads, so that measurements of "the same" model would differ. The commits below
were the newest that public references to these repositories name; ``model_revisions`` chooses another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

#: Variables that name a mirror of the hub: its library's own, and the setting for clusters.
_ENDPOINTS = ("HF_ENDPOINT", "WIDELOOP_CLUSTER__HUB_ENDPOINT")


class HubModel(NamedTuple):
    """A repository and one commit of it; ``revision`` None: the newest commit at the time of the download."""

    repository: str
    revision: str | None


_PROFILES = {
    "DeepSeek-R1": HubModel("deepseek-ai/DeepSeek-R1", "56d4cbbb4d29f4355bab4b9a39ccb717a14ad5ad"),
    "DeepSeek-R1-0528": HubModel("deepseek-ai/DeepSeek-R1-0528", "4236a6af538feda4548eca9ab308586007567f52"),
    "DeepSeek-V3": HubModel("deepseek-ai/DeepSeek-V3", "e815299b0bcbac849fa540c768ef21845365c9eb"),
    "Kimi-K2-Instruct": HubModel("moonshotai/Kimi-K2-Instruct", None),
    "Mixtral-8x7B": HubModel("mistralai/Mixtral-8x7B-Instruct-v0.1", "41bd4c9e7e4fb318ca40e721131d4933966c2cc1"),
    "Qwen3-235B-A22B": HubModel("Qwen/Qwen3-235B-A22B", "8efa61729e24bd65b1d152b5ab5409052aa80e65"),
    "Qwen3-235B-A22B-FP8": HubModel("Qwen/Qwen3-235B-A22B-FP8", "39eb2b067ea6b8e3e1dd97d3cd0c7ffeaf3e1a35"),
    "Qwen3-30B-A3B": HubModel("Qwen/Qwen3-30B-A3B", "ad44e777bcd18fa416d9da3bd8f70d33ebb85d39"),
    "Qwen3-30B-A3B-FP8": HubModel("Qwen/Qwen3-30B-A3B-FP8", "d206ba732169f29bb77fbf80fc2c4b81d4d30782"),
}
_BY_REPOSITORY = {source.repository: source for source in _PROFILES.values()}


def profile_of(hub_id: str) -> str | None:
    """The shipped profile of a hub id; None when there is none."""
    return next((name for name, source in _PROFILES.items() if source.repository == hub_id), None)


def hub_model(model: str, revisions: Mapping[str, str] | None = None) -> HubModel:
    """The repository of a profile's name or of a hub id.

    Args:
        revisions: commits by hub id that replace those of this module.
    """
    source = _PROFILES.get(model) or _BY_REPOSITORY.get(model) or HubModel(model, None)
    return source._replace(revision=(revisions or {}).get(source.repository, source.revision))


def hub_endpoint() -> str | None:
    """The address of a mirror of the hub; None for the hub itself.

    Handed to the hub's library at each call: it reads the variable once, when it is imported first.
    """
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
