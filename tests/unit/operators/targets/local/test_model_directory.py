"""The model cache of this host: verified once, verified again when it changed, never half there."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from wideloop.manifests import profiles
from wideloop.manifests.engines.base import Command
from wideloop.manifests.errors import Refused, TargetError
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local.model_directory import prepare_model_directory, verify

from tests.tiny_hub import Hub, serving, tiny_model
from tests.unit.operators.targets.fake_engine import FakeEngine

CONFIG = profiles.model_config_path("Qwen3-30B-A3B-FP8")


def shard(path: Path, size: int = 64) -> None:
    """A whole safetensors file with one tensor of ``size`` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}, "__metadata__": {}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * size)


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    folder = tmp_path / "weights" / "some-moe"
    folder.mkdir(parents=True)
    shutil.copy(CONFIG, folder / "config.json")
    (folder / "tokenizer.json").write_text("{}")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        shard(folder / name)
    index = {"weight_map": {"a": names[0], "b": names[1], "c": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_a_complete_directory_is_verified_once_and_re_used(home: Settings, complete: Path) -> None:
    first = verify(home, complete, needs_weights=True)
    assert (first.path, first.files, first.has_weights, first.reused) == (str(complete), 5, True, False)
    assert first.bytes == sum(p.stat().st_size for p in complete.iterdir())
    assert verify(home, complete, needs_weights=True) == first.model_copy(update={"reused": True})


def test_one_file_of_weights_needs_no_index(home: Settings, complete: Path) -> None:
    for file in complete.glob("model*"):
        file.unlink()
    shard(complete / "model.safetensors")
    assert verify(home, complete, needs_weights=True).has_weights


def test_a_change_has_it_verified_again(home: Settings, complete: Path) -> None:
    verify(home, complete, needs_weights=True)
    (complete / "generation_config.json").write_text("{}")
    assert not verify(home, complete, needs_weights=True).reused
    (complete / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(Refused):
        verify(home, complete, needs_weights=True)


@pytest.mark.parametrize("content", ["", "[]", '{"signature": "', '{"weights": {}}'])
def test_a_note_that_cannot_be_read_counts_as_not_verified(home: Settings, complete: Path, content: str) -> None:
    verify(home, complete, needs_weights=True)
    (note,) = (home.models / ".verified").iterdir()
    note.write_text(content)
    assert not verify(home, complete, needs_weights=True).reused
    assert verify(home, complete, needs_weights=True).reused


def test_a_change_of_time_alone_has_it_verified_again(home: Settings, complete: Path) -> None:
    verify(home, complete, needs_weights=True)
    os.utime(complete / "model-00001-of-00002.safetensors", (1, 1))
    assert not verify(home, complete, needs_weights=True).reused


def test_what_was_verified_without_weights_is_no_proof_of_weights(home: Settings, complete: Path) -> None:
    for file in complete.glob("*.safetensors"):
        file.unlink()
    assert not verify(home, complete, needs_weights=False).has_weights
    with pytest.raises(Refused):
        verify(home, complete, needs_weights=True)


SECOND = "model-00002-of-00002.safetensors"


def cut(file: Path, end: int) -> None:
    file.write_bytes(file.read_bytes()[:end])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: shutil.rmtree(f), "is no directory"),
        (lambda f: (f / "config.json").unlink(), r"no readable config\.json"),
        (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer\.json"),
        (lambda f: (f / SECOND).unlink(), f"lacks 1 of 2 weight shards, first {SECOND}"),
        (lambda f: cut(f / SECOND, -1), "bytes where its header says"),
        (lambda f: cut(f / SECOND, 12), "no safetensors file"),
        (lambda f: cut(f / SECOND, 0), "no safetensors file"),
        (lambda f: (f / SECOND).write_text("<html>429 Too Many Requests</html>" * 10), "no safetensors file"),
        (lambda f: (f / SECOND).write_bytes((2).to_bytes(8, "little") + b"[]"), "no safetensors file"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "no index of weight shards"),
    ],
    ids=["no directory", "no config", "no tokenizer", "missing shard", "truncated shard", "truncated header",
         "empty shard", "an error page", "a list as header", "broken index"],
)  # fmt: skip
def test_what_is_incomplete_is_refused_with_what_to_do(
    home: Settings, complete: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(complete)
    with pytest.raises(Refused, match=said) as refused:
        verify(home, complete, needs_weights=True)
    (finding,) = refused.value.findings
    assert finding.field == "model" and finding.value.startswith(str(complete)) and finding.suggestion


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40))
def test_no_garbage_passes_for_a_shard(home: Settings, complete: Path, content: bytes) -> None:
    (complete / "model-00001-of-00002.safetensors").write_bytes(content)
    with pytest.raises(Refused):
        verify(home, complete, needs_weights=True)


class Maker(FakeEngine):
    """Makes a model directory with a real process, as slowly and as badly as it is told."""

    script = 'mkdir "$1" && cp "$0" "$1/config.json" && echo "{}" > "$1/tokenizer.json"'

    def make_model(self, python: str, config_file: str, out_dir: str) -> Command:
        return Command(argv=("/bin/sh", "-c", self.script, config_file, out_dir))


class Failing(Maker):
    script = 'mkdir "$1"; touch "$1/config.json"; echo no space left on device >&2; exit 1'


class Slow(Maker):
    script = f"sleep 0.3; {Maker.script}"


def test_a_profile_is_made_once(home: Settings) -> None:
    first = prepare_model_directory(home, Maker(), "Qwen3-30B-A3B-FP8")
    assert Path(first.path).is_relative_to(home.models)
    assert prepare_model_directory(home, Failing(), "Qwen3-30B-A3B-FP8").reused


def test_a_failed_making_is_said_and_leaves_nothing_that_looks_made(home: Settings) -> None:
    with pytest.raises(TargetError, match="no space left on device"):
        prepare_model_directory(home, Failing(), "Qwen3-30B-A3B-FP8")
    assert not prepare_model_directory(home, Maker(), "Qwen3-30B-A3B-FP8").reused


def test_two_that_want_the_same_model_at_once_both_get_it(home: Settings) -> None:
    found: list[object] = []

    def prepare() -> None:
        try:
            found.append(prepare_model_directory(home, Slow(), "Qwen3-30B-A3B-FP8").path)
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(str, found))) == 1 and isinstance(found[0], str), found


def test_a_made_directory_that_was_damaged_is_made_again(home: Settings) -> None:
    made = Path(prepare_model_directory(home, Maker(), "Qwen3-30B-A3B-FP8").path)
    (made / "tokenizer.json").unlink()
    assert prepare_model_directory(home, Maker(), "Qwen3-30B-A3B-FP8").path == str(made)
    assert (made / "tokenizer.json").is_file()


def test_a_given_directory_is_used_as_it_is_and_by_its_full_path(
    home: Settings, complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare_model_directory(home, Maker(), str(complete)).path == str(complete)
    monkeypatch.chdir(complete.parent)
    assert prepare_model_directory(home, Maker(), "./some-moe").path == str(complete)
    with pytest.raises(Refused, match="no directory"):
        prepare_model_directory(home, Maker(), str(complete / "nowhere"))


@pytest.mark.parametrize("name", ["/" + "x" * 5000, "/a\0b", "./" + "y/" * 3000])
def test_a_path_that_no_directory_can_have_is_refused_in_short(home: Settings, name: str) -> None:
    with pytest.raises(Refused, match="no directory") as refused:
        prepare_model_directory(home, Maker(), name)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model-00001-of-00002.safetensors"])
def test_a_pipe_among_the_files_is_not_waited_for(home: Settings, complete: Path, name: str) -> None:
    (complete / name).unlink()
    os.mkfifo(complete / name)
    with pytest.raises(Refused):
        verify(home, complete, needs_weights=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub("org/tiny-moe", tiny_model(CONFIG.read_bytes()))) as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        yield one


class Loader(FakeEngine):
    needs_weights = True

    def make_model(self, python: str, config_file: str, out_dir: str) -> None:
        return None


def test_a_repository_is_downloaded_once_and_then_found(home: Settings, hub: Hub) -> None:
    first = prepare_model_directory(home, Loader(), "org/tiny-moe")
    assert first.has_weights and not first.reused
    hub.requests.clear()
    assert prepare_model_directory(home, Loader(), "org/tiny-moe").reused
    assert hub.requests == []


@pytest.mark.parametrize("gone", ["tokenizer.json", "model-00002-of-00002.safetensors"])
def test_a_repository_that_cannot_be_served_is_refused_before_any_weights(home: Settings, hub: Hub, gone: str) -> None:
    del hub.files[gone]
    with pytest.raises(Refused, match="cannot be served"):
        prepare_model_directory(home, Loader(), "org/tiny-moe")
    assert not any(name.endswith(".safetensors") for name in hub.served)
