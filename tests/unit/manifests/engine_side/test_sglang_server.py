"""The standby against a package that is laid out as SGLang is: what it imports, hands over and falls back to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[4]
#: SGLang's own structure (0.5.17): who imports what, who starts whom with which arguments.
PACKAGE = {
    "__init__.py": "",
    "launch_server.py": "from sglang.srt.entrypoints.engine import launch\ndef run_server(args): launch(args)\n",
    "srt/__init__.py": "",
    "srt/plugins.py": "def load_plugins(): pass\n",
    "srt/server_args.py": "def prepare_server_args(argv): return {'argv': argv}\n",
    "srt/utils.py": "def kill_process_tree(pid, include_parent): pass\n",
    "srt/entrypoints/__init__.py": "",
    "srt/entrypoints/http_server.py": "",
    "srt/entrypoints/engine.py": """
import json, multiprocessing as mp, os, pathlib
from sglang.srt.managers.scheduler import run_scheduler_process
def launch(args):
    mp.set_start_method("spawn", force=True)
    os.environ["SET_BY_PARENT"] = "late"
    found = []
    for rank in range(3):
        reader, writer = mp.Pipe(duplex=False)
        process = mp.Process(target=run_scheduler_process, args=(args, rank), kwargs={"pipe": writer})
        process.start()
        found.append({**reader.recv(), "known_as": process.pid})
        process.join()
        found[-1]["exit"] = process.exitcode
    pathlib.Path(os.environ["RESULT"]).write_text(json.dumps(found))
""",
    "srt/managers/__init__.py": "",
    "srt/managers/scheduler.py": """
import os
def run_scheduler_process(args, rank, pipe):
    pipe.send({"pid": os.getpid(), "rank": rank, "argv": args["argv"], "late": os.environ.get("SET_BY_PARENT"),
               "ordered": os.environ.get("ORDERED")})
""",
    "srt/managers/detokenizer_manager.py": "",
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    for name, text in PACKAGE.items():
        file = tmp_path / "site" / "sglang" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {
        **os.environ,
        "PYTHONPATH": f"{tmp_path / 'site'}:{PROJECT / '.links'}",
        "RESULT": str(tmp_path / "result.json"),
    }


@pytest.fixture
def standby(tmp_path: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-m",
        "wideloop.manifests.engine_side.sglang_server",
        "standby",
        str(tmp_path / "order.json"),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--processes", "2"], env=environ, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait()


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def order(tmp_path: Path) -> None:
    argv = ["/py", "-m", "wideloop.manifests.engine_side.sglang_server", "serve", "--", "--tp-size", "2"]
    part = tmp_path / "part"
    part.write_text(json.dumps({"argv": argv, "env": {"ORDERED": "yes"}}))
    part.rename(tmp_path / "order.json")


def test_processes_that_were_there_before_run_what_is_ordered(tmp_path: Path, standby: subprocess.Popen[bytes]):
    until(lambda: "imported, waiting" in (tmp_path / "log").read_text())
    before = {p.pid for p in psutil.Process(standby.pid).children(recursive=True)}
    order(tmp_path)
    assert standby.wait(60) == 0, (tmp_path / "log").read_text()
    found = json.loads((tmp_path / "result.json").read_text())
    assert [f["rank"] for f in found] == [0, 1, 2]
    assert {f["pid"] for f in found[:2]} <= before
    # More than were prepared: started as ever.
    assert found[2]["pid"] not in before
    for one in found:
        assert (one["pid"], one["exit"]) == (one["known_as"], 0)
        assert one["argv"] == ["--tp-size", "2"]
        # What the server's parent sets before it starts its workers reaches those that were there before.
        assert (one["late"], one["ordered"]) == ("late", "yes")


def test_a_standby_that_is_not_needed_takes_its_children_along(tmp_path: Path, standby: subprocess.Popen[bytes]):
    until(lambda: "imported, waiting" in (tmp_path / "log").read_text())
    children = psutil.Process(standby.pid).children(recursive=True)
    assert len(children) >= 2
    standby.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_without_a_standby_the_server_starts_at_once(tmp_path: Path, environ: dict[str, str]):
    command = [sys.executable, "-m", "wideloop.manifests.engine_side.sglang_server", "serve", "--", "--port", "1"]
    subprocess.run(command, env=environ, check=True, timeout=60)
    found = json.loads((tmp_path / "result.json").read_text())
    assert [f["argv"] for f in found] == [["--port", "1"]] * 3
