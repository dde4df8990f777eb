"""The program that fills a model cache, as a process of its own against a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests import profiles

from tests import tiny_hub
from tests.tiny_hub import Hub, safetensors, serving, tiny_model

REPOSITORY = "org/tiny-moe"
SHARD = "model-00002-of-00002.safetensors"
PROGRAM = Path(profiles.__file__).parent / "images" / "fill_model_cache.py"


@pytest.fixture
def hub() -> Any:
    config = profiles.model_config_path("Qwen3-30B-A3B").read_bytes()
    with serving(Hub(REPOSITORY, tiny_model(config))) as one:
        yield one


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The program as a pod finds it: two files in a folder, and nothing of ours installed."""
    folder = tmp_path / "files"
    folder.mkdir()
    for file in (PROGRAM, PROGRAM.parents[1] / "model_files.py"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / PROGRAM.name


def fill(program: Path, hub: Hub, folder: Path, *more: str, **env: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, result and output."""
    result = folder.with_name("result.json")
    result.unlink(missing_ok=True)
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "HF_ENDPOINT": hub.url}
    environ |= {"WIDELOOP_RESULT": str(result), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **env}
    arguments = more or ("--repository", REPOSITORY)
    command = [sys.executable, "-P", str(program), "--folder", str(folder), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=folder.parent, check=False)
    found = json.loads(result.read_text()) if result.exists() else {}
    return done.returncode, found, done.stdout + done.stderr


def test_a_model_is_downloaded_at_the_commit_of_now_and_verified(program: Path, hub: Hub, tmp_path: Path) -> None:
    status, result, output = fill(program, hub, tmp_path / "m")
    assert status == 0, output
    size = sum(len(content) for name, content in hub.files.items() if not name.startswith("original/"))
    assert result == {"reused": False, "revision": hub.commit, "files": 6, "bytes": size + 40, "has_weights": True}
    assert "original/consolidated.pth" not in hub.served
    assert {p.name for p in tmp_path.glob("m*")} == {"m"}


def test_a_complete_cache_asks_the_hub_nothing(program: Path, hub: Hub, tmp_path: Path) -> None:
    fill(program, hub, tmp_path / "m")
    hub.requests.clear()
    status, result, _ = fill(program, hub, tmp_path / "m")
    assert (status, result["reused"], result["revision"], hub.requests) == (0, True, hub.commit, [])


def test_only_what_is_damaged_is_fetched_again(program: Path, hub: Hub, tmp_path: Path) -> None:
    fill(program, hub, tmp_path / "m")
    shard = tmp_path / "m" / SHARD
    shard.write_bytes(shard.read_bytes()[:-1])
    hub.served.clear()
    status, result, output = fill(program, hub, tmp_path / "m")
    assert (status, result["reused"]) == (0, False), output
    assert hub.served == {SHARD: len(hub.files[SHARD])}
    assert "bytes where its header says" in output


def test_a_download_that_was_killed_goes_on_where_it_was(program: Path, hub: Hub, tmp_path: Path) -> None:
    partial = tmp_path / "m.partial"
    # As a killed process leaves it: whole files, and no folder of that name yet.
    fill(program, hub, tmp_path / "m")
    (tmp_path / "m").rename(partial)
    (partial / SHARD).unlink()
    hub.served.clear()
    status, _, output = fill(program, hub, tmp_path / "m")
    assert status == 0, output
    assert hub.served == {SHARD: len(hub.files[SHARD])}


def test_a_connection_that_breaks_costs_only_what_was_on_its_way(program: Path, hub: Hub, tmp_path: Path) -> None:
    hub.cut[SHARD] = 100_000
    statuses = [fill(program, hub, tmp_path / "m")[0] for _ in range(2)]
    assert statuses[-1] == 0
    assert (tmp_path / "m" / SHARD).read_bytes() == hub.files[SHARD]


def test_a_download_that_stalls_ends_for_another_try_which_goes_on(program: Path, hub: Hub, tmp_path: Path) -> None:
    hub.stall[SHARD] = 100_000
    status, result, output = fill(program, hub, tmp_path / "m", "--repository", REPOSITORY, "--stall-s", "1")
    assert (status, result) == (os.EX_TEMPFAIL, {}), output
    assert "the download stalled: no byte for" in output
    assert "proxy, egress rules" in output
    status, _, output = fill(program, hub, tmp_path / "m")
    assert status == 0, output
    assert (tmp_path / "m" / SHARD).read_bytes() == hub.files[SHARD]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (SHARD, None, "lacks 1 of 2 weight shards, first model-00002-of-00002.safetensors"),
        (SHARD, safetensors({"b": 300_000})[:-7], "bytes where its header says"),
        (SHARD, b"<html>not this</html>", "is no safetensors file, or a part of one"),
        ("model.safetensors.index.json", b"{}", "is no index of weight shards"),
        ("tokenizer.json", None, "has no tokenizer.json"),
    ],
)
def test_a_repository_that_is_not_whole_never_becomes_a_cache(
    name: str, content: bytes | None, said: str, program: Path, hub: Hub, tmp_path: Path
) -> None:
    if content is None:
        del hub.files[name]
    else:
        hub.files[name] = content
    status, result, output = fill(program, hub, tmp_path / "m")
    assert (status, result) == (1, {})
    assert said in output
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "tokenizer", ["tiktoken.model", "tokenizer.model", "tekken.json", "vocab.json", "qwen.tiktoken", "spiece.model"]
)
def test_any_tokenizer_that_engines_read_will_do(tokenizer: str, program: Path, hub: Hub, tmp_path: Path) -> None:
    hub.files[tokenizer] = hub.files.pop("tokenizer.json")
    status, _, output = fill(program, hub, tmp_path / "m")
    assert status == 0, output


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ([SHARD], f"lacks 1 of 2 weight shards, first {SHARD}"),
        (["tokenizer.json"], "has no tokenizer.json, nor another tokenizer"),
        (["config.json"], "has no config.json"),
        (["model.safetensors.index.json"], "has no safetensors weights"),
    ],
)
def test_what_the_list_of_files_shows_is_refused_before_any_download(
    gone: list[str], named: str, program: Path, hub: Hub, tmp_path: Path
) -> None:
    for name in gone:
        del hub.files[name]
    status, _, output = fill(program, hub, tmp_path / "m")
    assert status == 1
    assert named in output
    assert not any(name.endswith(".safetensors") for name in hub.served)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (401, 1, "the hub refuses the token in HF_TOKEN (401)"),
        (403, 1, "may not read org/tiny-moe (403)"),
        (500, os.EX_TEMPFAIL, "does not answer"),
        (503, os.EX_TEMPFAIL, "does not answer"),
    ],
)
def test_a_refusal_is_final_and_a_failure_is_tried_again(
    answer: int, status: int, words: str, program: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = {401: "Invalid credentials in Authorization header", 403: "Please enable access"}.get(answer, "")
    refuse = lambda self: self._json(answer, {"error": "no"}, {"X-Error-Message": message})  # noqa: E731
    monkeypatch.setattr(tiny_hub._Handler, "_answer", refuse)
    ended, _, output = fill(program, hub, tmp_path / "m", HF_TOKEN="hf_x")
    assert ended == status, output
    assert words in output


@pytest.mark.parametrize(
    ("damage", "status", "words"),
    [(None, 0, "is complete"), (SHARD, 1, "lacks 1 of 2 weight shards"), ("config.json", 1, "has no config.json")],
)
def test_a_model_that_is_there_is_verified_and_not_touched(
    damage: str | None, status: int, words: str, program: Path, hub: Hub, tmp_path: Path
) -> None:
    fill(program, hub, tmp_path / "m")
    if damage:
        (tmp_path / "m" / damage).unlink()
    before = sorted(p.name for p in tmp_path.rglob("*") if p.name != "result.json")
    ended, result, output = fill(program, hub, tmp_path / "m", "--verify")
    assert (ended, words in output) == (status, True), output
    assert result.get("reused") is (None if status else True)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.name != "result.json") == before


def test_a_folder_that_is_not_there_is_told_as_such(program: Path, hub: Hub, tmp_path: Path) -> None:
    status, _, output = fill(program, hub, tmp_path / "nowhere", "--verify")
    assert (status, "is no directory in pods" in output) == (1, True)


def test_a_gated_model_says_what_to_do(program: Path, hub: Hub, tmp_path: Path) -> None:
    hub.token = "good"
    status, _, output = fill(program, hub, tmp_path / "m", HF_TOKEN="bad")
    assert status == 1
    assert "is gated: accept its licence" in output
    status, _, output = fill(program, hub, tmp_path / "m", HF_TOKEN="good")
    assert status == 0, output


def test_a_repository_that_is_not_there_and_a_hub_that_is_not(program: Path, hub: Hub, tmp_path: Path) -> None:
    status, _, output = fill(program, hub, tmp_path / "m", "--repository", "org/other")
    assert status == 1
    assert "the hub has no org/other, or there is no HF_TOKEN" in output
    status, _, output = fill(program, hub, tmp_path / "m", HF_ENDPOINT="http://127.0.0.1:9")
    assert status == os.EX_TEMPFAIL
    assert "the hub does not answer for org/tiny-moe" in output


def test_a_model_that_an_engine_makes(program: Path, hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    script = f"mkdir {folder}.partial; echo '{{}}' | tee {folder}.partial/config.json {folder}.partial/tokenizer.json"
    for reused in (False, True):
        status, result, output = fill(program, hub, folder, "--make", "sh", "-c", script)
        assert status == 0, output
        assert result == {"reused": reused, "revision": "", "files": 2, "bytes": 6, "has_weights": False}
    status, _, output = fill(program, hub, tmp_path / "other", "--make", "sh", "-c", "exit 3")
    assert (status, "sh -c ... failed with 3" in output) == (1, True)
