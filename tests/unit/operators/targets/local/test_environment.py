"""An engine's environment as its image: known by its lock, built when needed, smoke-tested."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.errors import TargetError
from wideloop.operators import bootstrap
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local import environment as module
from wideloop.operators.targets.local.environment import environment_python, lock_digest, prepare_environment
from wideloop.operators.targets.local.target import LocalTarget

from tests.unit.operators.targets.fake_engine import FakeEngine, environment


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock file of the fake engine's environment; building it does nothing, for it is there."""
    lock = tmp_path / "locks" / "fake.txt"
    lock.parent.mkdir()
    lock.write_text("json==1.0\n")
    monkeypatch.setattr(module, "_LOCKS", lock.parent)
    monkeypatch.setattr(module, "_build", lambda settings, name: None)
    return lock


IMPORTABLE, UNIMPORTABLE = ("json",), ("json", "no_such_module_of_this_engine")


def test_the_digest_is_that_of_the_lock_file() -> None:
    from wideloop import manifests

    text = (Path(manifests.__file__).parent / "environments" / "simulated.txt").read_bytes()
    assert lock_digest("simulated") == "sha256:" + hashlib.sha256(text).hexdigest()


def test_an_environment_without_a_lock_is_refused_with_those_there_are() -> None:
    with pytest.raises(TargetError, match=r"no lock file vllm\.txt.*simulated\.txt"):
        lock_digest("vllm")


def test_an_environment_that_was_not_built_is_said(home: Settings) -> None:
    with pytest.raises(TargetError, match="'simulated' has not been built"):
        environment_python(home, "simulated")


def test_it_is_smoke_tested_once_per_lock(home: Settings, lock: Path) -> None:
    first = prepare_environment(home, "fake", IMPORTABLE)
    assert (first.digest, set(first.versions), first.reused) == (lock_digest("fake"), {"json", "arch"}, False)
    assert prepare_environment(home, "fake", UNIMPORTABLE).reused
    lock.write_text("json==1.1\n")
    with pytest.raises(TargetError, match="no_such_module_of_this_engine"):
        prepare_environment(home, "fake", UNIMPORTABLE)


def test_a_failed_smoke_test_is_not_remembered_as_verified(home: Settings, lock: Path) -> None:
    for _ in range(2):
        with pytest.raises(TargetError, match="smoke test"):
            prepare_environment(home, "fake", UNIMPORTABLE)


@pytest.mark.parametrize("content", ["", '{"digest": ', "[]", "{}", '{"digest": "sha256:0", "versions": null}', "\0"])
def test_a_note_that_cannot_be_read_counts_as_not_verified(home: Settings, lock: Path, content: str) -> None:
    note = home.environments / "fake.verified.json"
    note.write_text(content)
    assert not prepare_environment(home, "fake", IMPORTABLE).reused
    assert prepare_environment(home, "fake", IMPORTABLE).reused


def test_a_verified_environment_that_was_removed_is_built_again(
    home: Settings, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_environment(home, "fake", IMPORTABLE)
    shutil.rmtree(home.environments / "fake")
    monkeypatch.setattr(module, "_build", environment)
    assert not prepare_environment(home, "fake", IMPORTABLE).reused


def test_what_the_bootstrap_completed_from_this_lock_is_not_built_again(
    home: Settings, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    monkeypatch.setattr(module, "_build", lambda settings, name: built.append(name))
    monkeypatch.setattr(bootstrap, "PROJECT", lock.parents[1])
    made = bootstrap.Environment("fake", 0.1, with_project=False)
    locks = lock.parents[1] / "manifests" / "environments"
    locks.mkdir(parents=True)
    shutil.copy(lock, locks)
    stamp = home.environments / "fake" / bootstrap.READY
    stamp.write_text(bootstrap.key_of(made, home.home))
    prepare_environment(home, "fake", IMPORTABLE)
    assert built == []
    lock.write_text("json==1.1\n")
    prepare_environment(home, "fake", IMPORTABLE)
    assert built == ["fake"]


def test_a_build_that_fails_says_why(home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real bootstrap, asked for an environment that it does not know.
    monkeypatch.setattr(module, "lock_digest", lambda name: "sha256:0")
    with pytest.raises(TargetError, match=r"(?s)building the environment 'fake' failed.*invalid choice"):
        prepare_environment(home, "fake", IMPORTABLE)


def test_an_image_brings_the_clients_environment_too(
    home: Settings, here: LocalTarget, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(home.environments / "benchmark")
    (lock.parent / "benchmark.txt").write_text("client==1\n")
    monkeypatch.setattr(module, "_build", environment)
    monkeypatch.setattr(Aiperf, "imports", ("csv",))
    shutil.rmtree(home.environments / "fake")
    image = here.prepare_image(FakeEngine(), Aiperf())
    assert (image.digest, set(image.versions), image.reused) == (lock_digest("fake"), {"json", "csv", "arch"}, False)
    assert here.prepare_image(FakeEngine(), Aiperf()).reused
    shutil.rmtree(home.environments / "benchmark")
    assert not here.prepare_image(FakeEngine(), Aiperf()).reused
