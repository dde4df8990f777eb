"""``wideloop placement convert`` as a person calls it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner
from wideloop.operators.commands.cli import app
from wideloop.tuning.placement import files, place, read

SHAPE = ["--ep", "4", "--experts", "8"]


@pytest.fixture
def made():
    """Four layers, the first of them dense: 8 experts in 12 slots on 4 ranks."""
    load = np.random.default_rng(0).random((4, 8))
    load[0] = 0
    return place(load, 4, 4)


@pytest.fixture
def file(made, tmp_path):
    path = tmp_path / "sglang.json"
    path.write_text(files.to_sglang(made))
    return path


def convert(*options):
    return CliRunner().invoke(app, ["placement", "convert", *map(str, options)])


def test_vllms_list_has_no_row_for_the_dense_layer(file, made):
    done = convert(file, "--from", "sglang", "--to", "vllm", *SHAPE, "--dense", "0")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == made.physical_to_logical[1:].tolist()


def test_tensorrt_llms_rows_keep_the_numbers_of_their_layers(file, made):
    done = convert(file, "--to", "tensorrt_llm", *SHAPE, "--dense", "0")
    assert done.exit_code == 0
    rows = yaml.safe_load(done.stdout)["initial_global_assignments"]
    assert rows == {i: made.physical_to_logical[i].tolist() for i in (1, 2, 3)}


def test_a_file_is_written_that_sglang_reads_with_every_layer(made, tmp_path):
    theirs, ours = tmp_path / "vllm.json", tmp_path / "sglang.json"
    theirs.write_text(files.to_vllm(made, [0]))
    done = convert(theirs, "--from", "vllm", "--to", "sglang", *SHAPE, "--layers", 4, "--dense", "0", "--out", ours)
    assert (done.exit_code, done.stdout) == (0, "")
    assert (read(ours, 4, 8, layers=4).physical_to_logical == made.physical_to_logical).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ep", "5", "--experts", "8"], "does not place 8 experts on 5 ranks"),
        (["--ep", "4", "--experts", "9"], "leaves expert 8 of layer 0 without any slot"),
        ([*SHAPE, "--layers", "5"], "has 4 layers, the model 5"),
        ([*SHAPE, "--from", "vllm"], "is no placement file"),
        ([*SHAPE, "--dense", "4"], "dense = 4: the placement has layers 0 to 3"),
        ([*SHAPE, "--dense", "0-2"], "dense = '0-2': must be layer numbers with commas"),
    ],
)
def test_what_does_not_suit_is_refused_with_its_rule(file, options, said, tmp_path):
    out = tmp_path / "out"
    done = convert(file, "--to", "vllm", *options, "--out", out)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not out.exists()


def test_a_file_that_cannot_be_written_is_named(file, tmp_path):
    out = tmp_path / "nowhere" / "out"
    done = convert(file, "--to", "vllm", *SHAPE, "--out", out)
    assert done.exit_code == 2
    assert f"out = '{out}': cannot be written (No such file or directory)" in done.stderr
