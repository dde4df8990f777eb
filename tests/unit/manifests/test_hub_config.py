"""A model by its hub id: its config from a hub on loopback, fetched once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.errors import Refused

from tests.tiny_hub import Hub, serving, tiny_model

CONFIG = json.loads(profiles.model_config_path("Qwen3-30B-A3B").read_text())
del CONFIG["_name_or_path"]
ID = "org/some-moe"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = tiny_model(json.dumps(CONFIG).encode())
    with serving(Hub(ID, files)) as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("WIDELOOP_HOME", str(tmp_path / "home"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield one


def test_a_hub_id_is_read_without_any_weights(hub: Hub) -> None:
    model = profiles.model(ID)
    assert (model.name, model.num_experts, model.num_layers) == (ID, 128, 48)
    assert sum(hub.served.values()) == len(hub.files["config.json"])


def test_the_hubs_file_sizes_are_the_models_size(hub: Hub) -> None:
    shards = sum(len(content) for name, content in hub.files.items() if name.endswith(".safetensors"))
    assert profiles.model(ID).total_bytes == shards


def test_a_config_is_asked_for_once(hub: Hub) -> None:
    first = profiles.model(ID)
    hub.requests.clear()
    hub.files["config.json"] = b"{}"
    assert profiles.model(ID) == first
    assert hub.requests == []


def test_what_says_the_quantisation_is_fetched_too(hub: Hub) -> None:
    hub.files["hf_quant_config.json"] = json.dumps({"quantization": {"quant_algo": "NVFP4"}}).encode()
    assert profiles.model(ID).weight_bytes == 0.5


@pytest.mark.parametrize("name", ["org/other", "org/some-moee"])
def test_a_name_that_the_hub_does_not_have_is_refused(hub: Hub, name: str) -> None:
    with pytest.raises(Refused, match=f"the hub has no {name}"):
        profiles.model(name)


def test_a_gated_model_is_refused_with_what_to_do(hub: Hub) -> None:
    hub.token = "good"
    with pytest.raises(Refused, match="is gated: accept its licence"):
        profiles.model(ID)


def test_a_hub_that_is_not_there_is_a_finding(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Refused, match="does not answer for org/some-moe"):
        profiles.model(ID)


def test_a_repository_without_a_config_is_refused(hub: Hub) -> None:
    del hub.files["config.json"]
    with pytest.raises(Refused, match=r"has no config\.json"):
        profiles.model(ID)


@pytest.mark.parametrize("shipped", ["DeepSeek-R1", "Mixtral-8x7B", "Kimi-K2-Instruct"])
def test_the_hub_id_of_a_shipped_profile_needs_no_hub(hub: Hub, shipped: str) -> None:
    from wideloop.manifests.hub import hub_model

    assert profiles.model(hub_model(shipped).repository) == profiles.model(shipped)
    assert hub.requests == []
