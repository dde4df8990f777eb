"""Files of every engine: round trips, and what each refusal says."""

import contextlib
import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from wideloop.manifests.errors import Refused
from wideloop.tuning.placement import Placement, files, place, read

WRITERS = {"sglang": lambda p, dense: files.to_sglang(p), "vllm": files.to_vllm, "tensorrt_llm": files.to_tensorrt_llm}
DENSE = (0, 1)


@pytest.fixture(scope="module")
def placement():
    """Five layers, of which the first two are dense: 8 experts in 12 slots on 4 ranks."""
    load = np.random.default_rng(0).random((5, 8))
    load[list(DENSE)] = 0
    return place(load, 4, 4)


@pytest.mark.parametrize("form", WRITERS)
def test_a_placement_survives_its_file(form, placement, tmp_path):
    file = tmp_path / "placement"
    file.write_text(WRITERS[form](placement, DENSE))
    back = read(file, 4, 8, form=form, dense=DENSE)
    assert back.ep == 4
    assert (back.physical_to_logical == placement.physical_to_logical).all()


@pytest.mark.parametrize("one", WRITERS)
@pytest.mark.parametrize("other", WRITERS)
def test_a_placement_survives_two_forms(one, other, placement, tmp_path):
    file = tmp_path / "placement"
    file.write_text(WRITERS[one](placement, DENSE))
    file.write_text(WRITERS[other](read(file, 4, 8, form=one, dense=DENSE), DENSE))
    back = read(file, 4, 8, form=other, dense=DENSE, layers=5)
    assert (back.physical_to_logical == placement.physical_to_logical).all()


def test_sglangs_form_has_one_key_and_all_layers(placement):
    content = json.loads(files.to_sglang(placement))
    assert list(content) == ["physical_to_logical_map"]
    assert len(content["physical_to_logical_map"]) == 5


def test_tensorrt_llms_form_is_its_documentations(placement):
    content = yaml.safe_load(files.to_tensorrt_llm(placement, DENSE))
    assert set(content) == {"initial_global_assignments", "num_slots", "layer_updates_per_iter"}
    assert (content["num_slots"], content["layer_updates_per_iter"]) == (12, 0)
    assert content["initial_global_assignments"][2] == placement.physical_to_logical[2].tolist()
    assert list(content["initial_global_assignments"]) == [2, 3, 4]


def test_a_vllm_row_for_all_layers_is_read(tmp_path):
    file = tmp_path / "map.json"
    file.write_text("[0, 1, 2, 3, 0, 1]")
    back = read(file, 2, 4, form="vllm", layers=3, dense=[0])
    assert back.physical_to_logical[1:].tolist() == [[0, 1, 2, 3, 0, 1]] * 2
    with pytest.raises(Refused, match="number of layers must be given"):
        read(file, 2, 4, form="vllm")


GOOD = "[[0, 1, 2, 3], [3, 2, 1, 0]]"


@pytest.mark.parametrize(
    ("form", "text", "what"),
    [
        ("sglang", "", "no placement file"),
        ("sglang", "[]", "physical_to_logical_map and nothing else"),
        ("sglang", "{}", "physical_to_logical_map and nothing else"),
        ("sglang", f'{{"physical_to_logical_map": {GOOD}, "ep": 2}}', "nothing else"),
        ("sglang", '{"physical_to_logical_map": [[0, 1], [0]]}', "equally long rows"),
        ("sglang", '{"physical_to_logical_map": [[0, 1, 2, 3.5]]}', "whole numbers"),
        ("sglang", '{"physical_to_logical_map": [[true, false, true, true]]}', "whole numbers"),
        ("sglang", '{"physical_to_logical_map": [["0", "1", "2", "3"]]}', "whole numbers"),
        ("sglang", '{"physical_to_logical_map": []}', "equally long rows"),
        ("sglang", '{"physical_to_logical_map": [[0, 0, 1, 9]]}', "does not place 4 experts on 2 ranks"),
        ("sglang", '{"physical_to_logical_map": [[0, 1, 2, -1]]}', "does not place 4 experts on 2 ranks"),
        ("sglang", '{"physical_to_logical_map": [[0, 1, 2, 3, 0]]}', "does not place 4 experts on 2 ranks"),
        ("sglang", '{"physical_to_logical_map": [[0, 1, 2, 3], [0, 1, 2, 2]]}', "expert 3 of layer 1 without any"),
        ("sglang", "[" * 100_000, "no placement file"),
        ("vllm", '{"a": 1}', "equally long rows"),
        ("vllm", "[[0, 1, 2, 3]]", "leaves no layer 7"),
        ("tensorrt_llm", "a: [", "no placement file"),
        ("tensorrt_llm", "num_slots: 4", "initial_global_assignments"),
        ("tensorrt_llm", "initial_global_assignments: {x: [0, 1, 2, 3]}", "initial_global_assignments"),
        ("tensorrt_llm", "initial_global_assignments: {0: [0, 1, 2, 3]}\nnum_slots: 5", "says num_slots 5"),
        ("tensorrt_llm", "initial_global_assignments: {0: [0, 1, 2, 3], 2: [0, 1, 2, 3]}", "no row for layer 1"),
        ("tensorrt_llm", "initial_global_assignments: !!python/object/apply:os.getcwd []", "no placement file"),
    ],
)
def test_a_file_that_is_none_is_refused(form, text, what, tmp_path):
    file = tmp_path / "placement"
    file.write_text(text)
    with pytest.raises(Refused, match=what):
        read(file, 2, 4, form=form, dense=[7] if "layer 7" in what else [])


def test_another_models_placement_is_refused(tmp_path):
    file = tmp_path / "placement.json"
    file.write_text(f'{{"physical_to_logical_map": {GOOD}}}')
    with pytest.raises(Refused, match="has 2 layers, the model 3"):
        read(file, 2, 4, layers=3)
    with pytest.raises(Refused, match="no placement file"):
        read(tmp_path / "none.json", 2, 4)


@given(st.binary(max_size=200), st.sampled_from(["sglang", "vllm", "tensorrt_llm"]))
def test_whatever_is_in_a_file_it_is_read_or_refused(tmp_path_factory, content, form):
    file = tmp_path_factory.mktemp("any") / "file"
    file.write_bytes(content)
    with contextlib.suppress(Refused):
        assert isinstance(read(file, 2, 4, form=form), Placement)
