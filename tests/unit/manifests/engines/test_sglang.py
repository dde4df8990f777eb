from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine, sglang
from wideloop.manifests.engines.base import Component, Site

LOGS = Path(__file__).parents[3] / "data" / "sglang"
SGLANG = get_engine("sglang")


def spec(hardware: str = "h200-2", model: str = "Random-Qwen3-MoE-8L", version: str = "0.5.17", **knobs: object):
    profile = profiles.hardware(hardware)
    return SGLANG.resolve(
        DeploymentSpec(
            name="one",
            target="local",
            engine="sglang",
            engine_version=version,
            image="sha256:0",
            model=profiles.model(model),
            model_path="/models/m",
            hardware=profile,
            workers=tuple(WorkerSpec(role=r, layout=w, knobs=Knobs(**knobs)) for r, w in profile.workers.items()),
        )
    )


def site(**more: object) -> Site:
    fixed = {"python": "/py", "host": "127.0.0.1", "ports": {"http": 31000}, "spec_file": "/s", "work_dir": "/w"}
    return Site(**{**fixed, "shared_dir": "/sh", "model_path": "/models/m", **more})


def command(wanted: DeploymentSpec, **more: object):
    (component,) = SGLANG.components(wanted)
    return SGLANG.command(wanted, component, site(**more))


def test_one_server_is_frontend_and_worker_over_all_gpus():
    wanted = spec()
    (component,) = SGLANG.components(wanted)
    assert (component.role, component.ports) == ("aggregated", ("http",))
    argv = command(wanted, options=("--attention-backend", "triton")).argv
    assert argv[:4] == ("/py", "-m", "wideloop.manifests.engine_side.sglang_server", "serve")
    flags = argv[argv.index("--") + 1 :]
    pairs = dict(pairwise(flags))
    assert (pairs["--tp-size"], pairs["--ep-size"], pairs["--port"]) == ("2", "2", "31000")
    assert (pairs["--mem-fraction-static"], pairs["--cuda-graph-max-bs-decode"]) == ("0.905", "256")
    assert pairs["--attention-backend"] == "triton"
    assert "--load-format" not in flags


def test_a_directory_without_weights_has_them_drawn():
    argv = command(spec(), random_weights=True).argv
    assert argv[argv.index("--load-format") + 1] == "dummy"


def test_a_number_of_experts_without_a_tuned_kernel_is_told_which_file_it_lacks():
    def kernel(redundant: int) -> str:
        argv = command(spec(redundant_experts=redundant)).argv
        return argv[argv.index("--kernel-file") + 1]

    assert kernel(0) == "E=64,N=1536,device_name=NVIDIA_H200.json"
    assert kernel(8) == "E=68,N=1536,device_name=NVIDIA_H200.json"


def test_a_standby_knows_nothing_of_the_knobs():
    wanted, other = spec(), spec(redundant_experts=8, mem_fraction_static=0.5)
    (component,) = SGLANG.components(wanted)
    assert SGLANG.standby(wanted, component, site()) == SGLANG.standby(other, component, site())
    assert SGLANG.standby(wanted, component, site()).argv[-2:] == ("--processes", "3")
    path, order = SGLANG.hand_over(site(), command(other))
    assert path in SGLANG.standby(wanted, component, site()).argv
    assert "--ep-num-redundant-experts" in order


def test_only_a_shape_with_random_weights_is_made_on_the_spot():
    made = SGLANG.make_model("/py", str(profiles.model_config_path("Random-Qwen3-MoE-8L")), "/out")
    assert made is not None and made.argv[-1] == "/out"
    assert SGLANG.make_model("/py", str(profiles.model_config_path("Qwen3-30B-A3B")), "/out") is None


@pytest.mark.parametrize(
    ("wanted", "field", "says"),
    [
        (spec("h200-16"), "hardware", "h200-8"),
        (spec("gke-h200-32"), "prefill.nodes", "dynamo-sglang"),
        (spec(version="0.4.9"), "engine_version", "0.5.21"),
        (spec(redundant_experts=3), "aggregated.redundant_experts", ""),
    ],
)
def test_what_cannot_be_served_is_refused(wanted: DeploymentSpec, field: str, says: str):
    found = [f for f in SGLANG.validate(wanted) if f.field == field and f.severity == "error"]
    assert found and says in found[0].suggestion


@pytest.mark.parametrize("model", ["Random-Qwen3-MoE-8L", "Random-DeepSeek-V3-5L"])
def test_a_placement_is_accepted_where_our_class_of_the_model_honours_it(model: str):
    assert SGLANG.validate(spec(model=model, expert_placement="/p.json")) == []


def test_a_placement_that_the_models_class_would_ignore_is_refused():
    mixtral = spec(model="Mixtral-8x7B", expert_placement="/p.json")
    assert any("answers would be wrong" in f.rule for f in SGLANG.validate(mixtral))


def test_every_repaired_architecture_has_a_class_that_repairs_it():
    """Read without importing, because these modules import SGLang."""
    folder = Path(sglang.__file__).parents[1] / "engine_side" / "sglang_models"
    trees = [ast.parse(file.read_text()) for file in folder.glob("[a-z]*.py")]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert sorted(c.name for c in classes) == sorted(sglang.REPAIRED)


@pytest.mark.parametrize(
    ("log", "kind", "message", "deficit"),
    [
        ("capture", "out_of_memory", "capturing", 13.69 / 1024),
        ("load", "out_of_memory", "out of GPU memory", 51.75 / 1024),
        ("nccl", "out_of_memory", "out of GPU memory", 0.25),
        ("mla_load", "out_of_memory", "out of GPU memory", 1.99),
        ("no_kv", "out_of_memory", "above 0.138", 0.038 * 137.71),
        ("indivisible", "bad_configuration", "divided by its layout", None),
        ("rebalance", "crashed", "AttributeError: 'Qwen3MoeFor", None),
    ],
)
def test_the_logs_of_servers_that_died_on_two_h200(log: str, kind: str, message: str, deficit: float | None):
    lines = (LOGS / f"{log}.log").read_text().splitlines()
    said = SGLANG.diagnose(Component(name="aggregated-0", role="aggregated"), lines, -9)
    assert said.kind == kind
    assert message in said.message
    if deficit is not None:
        assert said.deficit_gib == pytest.approx(deficit, abs=0.02)
    assert SGLANG.will_die(lines)


def test_a_server_is_not_doomed_by_its_traceback_alone():
    """The cause is read only once it is there as a whole."""
    lines = (LOGS / "nccl.log").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if "Sleeping" in line)
    assert not SGLANG.will_die(lines[:first])
    assert SGLANG.will_die(lines[: first + 1])


@pytest.mark.parametrize("text", ["ncclRemoteError: remote process exited", "ncclSystemError: System call failed"])
def test_a_network_that_fails_is_no_lack_of_memory(text: str):
    line = f"torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:93, {text}"
    assert SGLANG.diagnose(Component(name="a", role="aggregated"), [line], 1).kind == "crashed"
