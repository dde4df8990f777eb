"""The comparison with SGLang's algorithm: where it looks for one, and that a stand-in is really run."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from wideloop.operators.settings import Settings

from tests.bench import placement
from tests.bench.workspace import BenchError, Workspace

#: In the place of SGLang's algorithm, with its signature: experts in order, the first ones again.
TRIVIAL = """
import torch
def rebalance_experts(weight, num_replicas, num_groups, num_nodes, num_gpus, enable_hierarchical):
    assert (num_groups, num_nodes, enable_hierarchical) == (1, 1, False)
    row = torch.arange(num_replicas) % weight.shape[1]
    return row.repeat(weight.shape[0], 1), None, None
"""


def workspace(folder: Path, wheel: Path | None, said: list[str]) -> Workspace:
    return Workspace(folder, Settings(home=folder), None, False, said.append, wheel)


def test_without_any_sglang_it_says_why_there_are_no_figures(tmp_path):
    said: list[str] = []
    assert placement.measure(workspace(tmp_path, None, said)) == []
    assert "--sglang-wheel" in said[0] and "--tests" in said[0]


def test_without_a_wheel_the_tests_sglang_is_taken_and_its_version_said(tmp_path):
    packages = tmp_path / "venvs" / placement.ENVIRONMENT / "lib" / "python3.11" / "site-packages"
    algorithm = packages / placement.MEMBER
    algorithm.parent.mkdir(parents=True)
    algorithm.write_text(TRIVIAL)
    (packages / "sglang-9.8.7.dist-info").mkdir()
    (packages / "sglang-9.8.7.dist-info" / "METADATA").write_text("Name: sglang\nVersion: 9.8.7\n")
    assert placement._source(workspace(tmp_path, None, [])) == (packages, "SGLang 9.8.7")
    assert placement._unpacked(packages, tmp_path) == algorithm
    wheel = tmp_path / "sglang-1.whl"
    assert placement._source(workspace(tmp_path, wheel, [])) == (wheel, "sglang-1.whl"), "what is given comes first"


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_what_is_no_wheel_of_sglang_is_named(content, tmp_path):
    wheel = tmp_path / "other.whl"
    if content is None:
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("other/__init__.py", "")
    else:
        wheel.write_bytes(content)
    with pytest.raises(BenchError, match=r"other\.whl is no SGLang wheel"):
        placement.measure(workspace(tmp_path, wheel, []))


def test_the_algorithm_of_the_wheel_is_run_and_compared(tmp_path):
    wheel = tmp_path / "sglang-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(placement.MEMBER, TRIVIAL)
    figures = placement.measure(workspace(tmp_path, wheel, []))
    assert len(figures) == 3 * len(placement.SHAPES)
    assert all("sglang-0-py3-none-any.whl" in f.made_of for f in figures if "CPU time" in f.name)
    left = [f for f in figures if "thorough" in f.name]
    assert all(f.value < 0 and f.met for f in left), "a placement is no better than the trivial order"


def test_loads_are_whole_tokens_for_every_layer():
    for name, load in placement.loads().items():
        assert load.shape == (placement.LAYERS, placement.EXPERTS), name
        assert (load == np.round(load)).all() and (load.sum(axis=1) > 0).all()


def test_a_figure_is_as_bad_as_its_worst_load():
    good = {"theirs": {"cpu_s": 0.04, "mean": 0.9, "worst": 0.8}, "quick": {"cpu_s": 0.001, "mean": 0.95, "worst": 0.9}}
    good["thorough"] = {"cpu_s": 0.1, "mean": 0.99, "worst": 0.98}
    bad = good | {"quick": {"cpu_s": 0.001, "mean": 0.95, "worst": 0.7}}
    time, quick, thorough = placement.figures({"shape": [good, bad]}, "wheel")
    assert time.value == pytest.approx(2.5) and time.met
    assert quick.value == pytest.approx(10) and not quick.met
    assert "3 of 4" in quick.made_of
    assert thorough.value == pytest.approx(-9) and thorough.met
