"""Every server of the two-H200 measurements: what the memory model says of it, and what became of it."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.sglang_memory.model import CONSTANTS, UNCALIBRATED, SglangMemory
from wideloop.manifests.validation import validate
from wideloop.tuning.memory import memory_findings
from wideloop.tuning.memory.calibrate import PARTS, errors, fit, split
from wideloop.tuning.memory.document import outcome, page
from wideloop.tuning.memory.measured import Server, read_servers

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "gpu"
HARDWARE = profiles.hardware("h200-8")
SERVERS = read_servers(DATA)
READY = [s for s in SERVERS if s.ready]
#: GiB. The model with latent attention took 0.3 more at capture than any of the others would explain.
LIMITS = {"weights": 0.05, "KV cache": 0.07, "graphs": 0.03, "free at ready": 0.04}
LATENT_LIMITS = {**LIMITS, "graphs": 0.08}


def spec(server: Server) -> DeploymentSpec:
    return get_engine("simulated").resolve(
        DeploymentSpec(
            name="t", target="local", engine="simulated", image="sha256:0", model=server.model, model_path="/m",
            hardware=HARDWARE, workers=(server.worker,),
        )
    )  # fmt: skip


def test_all_servers_are_there():
    assert len(SERVERS) == 34
    assert len(READY) == 30


@pytest.mark.parametrize("server", READY, ids=lambda s: s.name)
def test_each_part_is_as_large_as_it_was(server):
    memory = server.predicted(HARDWARE.gpu, CONSTANTS)
    limits = LATENT_LIMITS if server.model.name == "ds9" else LIMITS
    for part, (predicted, measured) in PARTS.items():
        assert getattr(memory, predicted) == pytest.approx(getattr(server, measured), abs=limits[part]), part
    assert memory.kv_tokens == pytest.approx(server.kv_tokens, rel=0.0025)


@pytest.mark.parametrize("server", SERVERS, ids=lambda s: s.name)
def test_each_ends_as_it_did(server):
    """One died of online rebalancing with dummy weights, which memory has no part in."""
    assert outcome(server, HARDWARE.gpu) == server.outcome.replace("rebalance", "ready")


@pytest.mark.parametrize("server", [s for s in SERVERS if s.growth_gib is not None], ids=lambda s: s.name)
def test_load_needs_what_is_predicted_and_the_allocator_keeps_up_to_as_much_again(server):
    need = server.predicted(HARDWARE.gpu, CONSTANTS).activations_gib
    assert 0.95 * need < server.growth_gib < 1.7 * need


@pytest.mark.parametrize(
    "server", [s for s in SERVERS if s.outcome not in ("ready", "rebalance")], ids=lambda s: s.name
)
def test_what_cannot_run_is_said_before_the_start_with_a_value_that_works(server):
    asked = spec(server)
    (finding,) = validate(asked) or memory_findings(asked)
    assert finding.value in (server.worker.knobs.mem_fraction_static, server.worker.knobs.redundant_experts)
    values = [float(word) for word in finding.suggestion.split() if word.replace(".", "").isdigit()]
    assert values
    for value in values:
        assert works(server, finding.field.split(".")[1], value)


def works(server: Server, field: str, value: float) -> bool:
    knobs = server.worker.knobs.model_copy(update={field: int(value) if field == "redundant_experts" else value})
    changed = dataclasses.replace(server, worker=server.worker.model_copy(update={"knobs": knobs}))
    asked = spec(changed)
    return not validate(asked) and not memory_findings(asked)


def test_the_shipped_constants_are_those_fitted_to_every_other_server():
    used, _ = split(SERVERS)
    fitted = dataclasses.asdict(fit(used, HARDWARE.gpu))
    for name, value in dataclasses.asdict(CONSTANTS).items():
        assert value == pytest.approx(fitted[name], rel=0.01), name


def test_fitting_halves_the_errors_on_servers_it_has_not_seen():
    used, held_out = split(SERVERS)
    before = errors(held_out, HARDWARE.gpu, UNCALIBRATED)
    after = errors(held_out, HARDWARE.gpu, fit(used, HARDWARE.gpu))
    for part in ("graphs", "free at ready"):
        assert sum(after[part]) < sum(before[part]) / 2
    assert sum(after["weights"] + after["KV cache"]) == sum(before["weights"] + before["KV cache"])


def test_servers_measured_later_give_no_reason_to_fit_again():
    later = [s for cycle in ("tuned", "graphs", "deepseek", "pd") for s in read_servers(ROOT / "docs" / "gpu" / cycle)]
    used, held_out = split([*SERVERS, *later])
    shipped, again = (errors(held_out, HARDWARE.gpu, c) for c in (CONSTANTS, fit(used, HARDWARE.gpu)))
    assert all(sum(shipped[part]) <= 1.001 * sum(again[part]) for part in PARTS)


def test_nothing_is_fitted_to_servers_that_never_came_up():
    with pytest.raises(ValueError, match="none of the servers became ready"):
        fit([s for s in SERVERS if not s.ready], HARDWARE.gpu)


def test_a_single_server_can_be_fitted_to():
    """A new machine's first: what it cannot tell apart stays what it was, and it is then explained exactly."""
    (server,) = [s for s in SERVERS if s.name == "r4 t07"]
    memory = SglangMemory(fit([server], HARDWARE.gpu)).worker(server.model, HARDWARE.gpu, server.worker)
    assert memory.graphs_gib == pytest.approx(server.graph_gib, abs=0.001)
    assert memory.activations_gib == pytest.approx(server.growth_gib, abs=0.001)


def test_the_page_is_current(monkeypatch):
    """Make it again with the command that stands in it."""
    monkeypatch.chdir(ROOT)
    text = Path("docs/memory.md").read_text()
    profile, *folders = re.search(r"-m wideloop\.tuning\.memory\.document (.*) > ", text)[1].split()
    assert text == page(profile, folders)


def test_a_deepseek_shape_takes_what_is_predicted_within_half_a_percent_of_the_gpu():
    """Its decode attention keeps 32 MiB per sequence of a graph, because Triton splits MLA's context 256 times."""
    servers = [s for s in read_servers(ROOT / "docs" / "gpu" / "deepseek") if s.ready]
    assert [s.worker.knobs.cuda_graph_max_bs for s in servers] == [256, 256, 256, 384, 256, 512]
    for server in servers:
        memory = server.predicted(HARDWARE.gpu, CONSTANTS)
        for part, (predicted, measured) in PARTS.items():
            off = getattr(memory, predicted) - getattr(server, measured)
            assert abs(off) < 0.005 * HARDWARE.gpu.usable_gib / 4, part


def test_a_worker_of_one_gpu_takes_what_is_predicted():
    for server in read_servers(ROOT / "docs" / "gpu" / "pd"):
        memory = server.predicted(HARDWARE.gpu, CONSTANTS)
        for part, (predicted, measured) in PARTS.items():
            assert getattr(memory, predicted) == pytest.approx(getattr(server, measured), abs=0.08), part


def test_servers_of_a_later_run_are_read_with_the_earlier_ones(tmp_path):
    """Another folder of the same form: what a driver on other GPUs leaves."""
    (tmp_path / "models").mkdir()
    config = json.loads((DATA / "models" / "moe8.json").read_text())
    (tmp_path / "models" / "mine.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    header, *rows = (DATA / "servers.csv").read_text().splitlines()
    (row,) = [r for r in rows if r.startswith("r4,t07,")]
    values = {"call": "mine", "model": "mine", "max_running_requests": "256"}
    with (tmp_path / "servers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*header.split(","), "max_running_requests"])
        writer.writeheader()
        writer.writerow({**dict(zip(header.split(","), row.split(","), strict=True)), **values})
    (server,) = read_servers(tmp_path)
    assert (server.model.num_layers, server.worker.knobs.max_running_requests) == (4, 256)
    assert "| mine t07 | mine | 16 |" in page("h200-8", [str(DATA), str(tmp_path)])
