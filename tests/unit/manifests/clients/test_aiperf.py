from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from wideloop import manifests
from wideloop.manifests.clients.aiperf import Aiperf, client_config, level_index, level_name
from wideloop.manifests.workload import Workload

WORKLOAD = Workload(isl=512, osl=32, concurrency=(4, 64, 4), requests_per_slot=3, warmup_requests=8, seed=7)
PLACE = {"url": "http://127.0.0.1:8000", "model": 'a model\'s "name" $HOME', "tokenizer_dir": "/models/x"}


def config(workload: Workload = WORKLOAD) -> dict[str, Any]:
    return client_config(workload, out_dir="/out", **PLACE)


def test_one_phase_per_level_in_order_after_a_warm_up() -> None:
    phases = config()["benchmark"]["phases"]
    assert [(p["name"], p["kind"], p["concurrency"], p["requests"]) for p in phases] == [
        ("warmup", "warmup", 8, 8),
        ("level0", "profiling", 4, 12),
        ("level1", "profiling", 64, 192),
        ("level2", "profiling", 4, 12),
    ]


def test_no_phase_polls_without_pause_or_holds_its_slots_back() -> None:
    for phase in config(Workload(concurrency=(1, 2048)))["benchmark"]["phases"]:
        assert phase["type"] == "constant"
        assert phase["rate"] >= 8 * phase["concurrency"]


def test_no_warm_up_phase_without_warm_up_requests() -> None:
    phases = config(WORKLOAD.model_copy(update={"warmup_requests": 0}))["benchmark"]["phases"]
    assert [p["name"] for p in phases] == ["level0", "level1", "level2"]


def test_a_gentle_warm_up_stays_within_the_asked_concurrency() -> None:
    phases = config(Workload(concurrency=(4,), warmup_requests=100))["benchmark"]["phases"]
    assert phases[0]["concurrency"] == 4


def test_answers_have_the_asked_length_and_are_counted_by_the_server() -> None:
    endpoint = config()["benchmark"]["endpoint"]
    assert endpoint["extra"] == {"ignore_eos": True}
    assert endpoint["useServerTokenCount"]
    assert endpoint["streaming"]


def test_workers_grow_with_the_load() -> None:
    def workers(*levels: int) -> int:
        return int(config(Workload(concurrency=levels))["benchmark"]["runtime"]["workers"])

    assert [workers(1), workers(64), workers(65), workers(16, 2048)] == [1, 1, 2, 32]


def test_the_command_writes_its_files_and_becomes_aiperf_without_offline_variables(tmp_path: Path) -> None:
    """Run for real, with an ``aiperf`` that says what it was given."""
    out, tools = tmp_path / "a folder", tmp_path / "bin"
    tools.mkdir()
    fake = tools / "aiperf"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$$" "$@" "${HF_HUB_OFFLINE-unset}" "${TRANSFORMERS_OFFLINE-unset}"\n')
    fake.chmod(0o755)
    command = Aiperf().command(WORKLOAD, out_dir=str(out), cache_dir=str(tmp_path / "cache"), **PLACE)
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", **command.env}
    with subprocess.Popen(command.argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    # The same process: a signal to the client reaches aiperf.
    assert said.splitlines() == [str(process.pid), "profile", "-f", f"{out}/client.json", "unset", "unset"]
    written = json.loads((out / "client.json").read_text())
    assert written == client_config(WORKLOAD, out_dir=str(out), **PLACE)
    rows = (out / "requests.jsonl").read_text().splitlines()
    assert len(rows) == 8 + 12 + 192 + 12
    assert json.loads(rows[0]) == {"input_length": 512, "output_length": 32}
    assert written["benchmark"]["dataset"]["path"] == str(out / "requests.jsonl")
    assert command.env["AIPERF_DATASET_MMAP_CACHE_DIR"] == str(tmp_path / "cache")


def test_its_version_is_the_one_that_its_environment_is_locked_to() -> None:
    lock = Path(manifests.__file__).parent / "environments" / f"{Aiperf.environment}.txt"
    assert f"aiperf=={Aiperf.version}" in [line.partition(" ")[0] for line in lock.read_text().splitlines()]


def test_only_the_phases_of_levels_are_levels() -> None:
    assert [level_index(level_name(i)) for i in (0, 12)] == [0, 12]
    assert [level_index(name) for name in ("warmup", "level", "levelx", "another0")] == [None] * 4


def test_its_copies_of_the_prompts_are_not_kept() -> None:
    names = ("profile_export.jsonl", "phase_manifest.json", "client.json", "inputs.json", "dataset.mmap")
    assert [Aiperf().keeps(name) for name in names] == [True, True, True, False, False]
