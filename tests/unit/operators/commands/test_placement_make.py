"""``wideloop placement make`` as a person calls it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from wideloop.operators.commands.cli import app
from wideloop.results.recordings import ExpertRecording, save
from wideloop.tuning.balance import balance
from wideloop.tuning.placement import place, read

LAYERS, EXPERTS, WINDOWS = 3, 16, 8


def traffic(seed: int, hot: int = 0) -> np.ndarray:
    """[windows, layers, experts]; experts get hotter from ``hot`` on, and others in the second half."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 20, (WINDOWS, LAYERS, EXPERTS))
    for window in range(WINDOWS):
        counts[window, :, (hot + (window >= WINDOWS // 2) * 4 + np.arange(4)) % EXPERTS] += 200
    return counts


def kept(path: Path, counts: np.ndarray) -> Path:
    return save(ExpertRecording({"decode": counts}, {"decode": len(counts)}, 1, True, {}), path)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return kept(tmp_path / "decode.npz", traffic(1))


def make(*options: object):
    return CliRunner().invoke(app, ["placement", "make", *map(str, options)])


def test_what_is_written_is_what_sglang_loads_and_as_even_as_it_says(recorded, tmp_path) -> None:
    out = tmp_path / "placement.json"
    done = make(recorded, "--ep", 4, "--redundant", 4, "--out", out)
    assert (done.exit_code, done.stdout) == (0, "")
    made = read(out, 4, EXPERTS, layers=LAYERS)
    total = traffic(1).sum(axis=0).astype(float)
    assert (made.physical_to_logical == place(total, 4, 4).physical_to_logical).all()
    assert f"{balance(total, made):.3f} placed" in done.stderr


def test_windows_hold_where_the_traffic_of_the_whole_does_not(recorded, tmp_path) -> None:
    worst = []
    for windows in (1, 2):
        out = tmp_path / f"{windows}.json"
        assert make(recorded, "--ep", 4, "--windows", windows, "--objective", "worst", "--out", out).exit_code == 0
        halves = traffic(1).reshape(2, WINDOWS // 2, LAYERS, EXPERTS).sum(axis=1)
        worst.append(min(balance(half, read(out, 4, EXPERTS)) for half in halves))
    assert worst[1] > worst[0]


def test_another_workload_is_judged_and_not_placed_for(recorded, tmp_path) -> None:
    other = kept(tmp_path / "other.npz", traffic(2, hot=8))
    alone, done = make(recorded, "--ep", 4), make(recorded, "--ep", 4, "--unseen", other)
    assert done.stdout == alone.stdout
    seen, unseen = (re.search(rf"{name} traffic: .* ([\d.]+) placed", done.stderr) for name in ("recorded", "unseen"))
    assert seen and unseen and float(unseen[1]) < float(seen[1])
    assert "of the tokens go to other experts" in done.stderr


def test_what_is_loaded_already_stays_where_it_is(recorded, tmp_path) -> None:
    now = tmp_path / "now.json"
    make(recorded, "--ep", 4, "--out", now)
    done = make(recorded, "--ep", 4, "--current", now)
    assert f"0 of {LAYERS * EXPERTS} slots get another expert" in done.stderr
    assert done.stdout.split() == now.read_text().split()


def test_groups_stay_within_a_node(recorded, tmp_path) -> None:
    out = tmp_path / "nodes.json"
    assert make(recorded, "--ep", 4, "--nodes", 2, "--groups", 4, "--out", out).exit_code == 0
    by_node = read(out, 4, EXPERTS).physical_to_logical.reshape(LAYERS, 2, -1) // (EXPERTS // 4)
    assert all(not set(one) & set(other) for one, other in by_node.tolist())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ep", 4, "--redundant", 3], "Use e.g. 0 redundant experts for 4 ranks"),
        (["--ep", 4, "--nodes", 3], "do not divide into 3 nodes"),
        (["--ep", 4, "--windows", 9], "Use 8 at most"),
        (["--ep", 4, "--unseen", "wrong.npz"], "Use a recording of the same model"),
        (["--ep", 4, "--unseen", "none.npz"], "is not a recording that wideloop saved"),
    ],
)
def test_what_cannot_be_is_refused(recorded, tmp_path, monkeypatch, options, said) -> None:
    monkeypatch.chdir(tmp_path)
    kept(tmp_path / "wrong.npz", traffic(1)[:, :2])
    done = make(recorded, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
