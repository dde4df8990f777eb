"""Recording, placing and comparing, with a target that hands out files and answers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from wideloop.manifests.engines.sglang_recorder import sglang_recorder
from wideloop.manifests.errors import Refused, TargetError, WideloopError
from wideloop.operators.request import Request
from wideloop.operators.steps import experts
from wideloop.operators.steps.experts import collect, examination
from wideloop.operators.steps.plan import plan
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results import recordings
from wideloop.results.experts.comparison import Comparison
from wideloop.results.experts.role_report import RoleReport
from wideloop.results.experts.sides import IN_ORDER, PLACED
from wideloop.tuning.effect import ignoring
from wideloop.tuning.placement import read
from wideloop.tuning.popularity import popularity
from wideloop.tuning.simulator import torch_file

from tests.unit.operators.steps.measured import measurement

RUN = Run(dag_id="wideep_experts", run_id="manual__1")
PARAMS = {"concurrency": [8], "isl": 256, "osl": 16}


class Place:
    """A target with one deployment, whose recorders write what ``counts`` gives for a role: [layers, experts]."""

    def __init__(self, folder, spec, counts, say=str.upper):
        self.folder, self.deployed, self.counts, self.say = folder, spec, counts, say
        self.called, self.log = [], ()

    def page(self):
        raise TargetError("no metrics")

    def spec(self, name):
        return self.deployed

    def endpoints(self, name):
        from wideloop.operators.targets.base import Endpoints

        return Endpoints(frontend="http://f", control={f"{w.role}-0": "http://w" for w in self.deployed.workers})

    def recordings(self, name, component):
        return sorted((self.folder / component).glob("*.pt"))

    def logs(self, name, component, lines=50):
        return self.log

    def call_all(self, name, component, path, **options):
        return (self.call(name, component, path, **options),)

    def call(self, name, component, path, *, method="POST", body=None, timeout_s=30.0):
        self.called.append((component, path))
        if component == "frontend":
            content = self.say(body["messages"][0]["content"])
            return json.dumps({"choices": [{"message": {"content": content}}]})
        if path == "/metrics":
            return self.page()
        if "/dump" in path:
            folder = self.folder / component
            folder.mkdir(parents=True, exist_ok=True)
            steps = np.stack(np.array_split(self.counts(component.split("-")[0]), 1))
            content = {"rank": 0, "logical_count": np.concatenate([steps, steps]).astype(np.int32)}
            torch_file.save(folder / f"expert_distribution_recorder_{time.time()}.pt", content)
        return "ok"


@pytest.fixture
def planned(wideloop_home):
    plan(PARAMS, RUN)
    return Request.from_params(PARAMS).spec("recorded").model_copy(update={"record_experts": "stat"})


def drawn(spec, seed=0):
    def counts(role):
        share = popularity(spec.model, role)
        return np.random.default_rng(seed).multinomial(40_000, share) * spec.worker(role).layout.tp

    return counts


def use(monkeypatch, place):
    for module in (collect, examination):
        monkeypatch.setattr(module, "open_target", lambda _name: place)
    return place


def after(spec, name="placed"):
    """The second deployment, as it would be applied."""
    placed = experts.placed_spec(Request.from_params(PARAMS), Request.from_params(PARAMS).spec(name), RUN)
    return placed.model_copy(update={"record_experts": "stat"})


def test_what_workers_wrote_is_kept_with_its_origin(planned, monkeypatch, tmp_path):
    place = use(monkeypatch, Place(tmp_path, planned, drawn(planned)))
    uris = experts.dump("local", "recorded", RUN)
    assert set(uris) == {"prefill-0", "decode-0"}
    assert [path for component, path in place.called if component == "decode-0"] == [
        "/stop_expert_distribution_record", "/dump_expert_distribution_record",
    ]  # fmt: skip
    kept = recordings.load(artefacts().get_file(uris["decode-0"], tmp_path / "a.npz"))
    assert kept.tokens(planned.model.top_k) == 40_000 * 2 // planned.model.top_k
    assert kept.provenance["recorder"] == "stat" and kept.provenance["simulated"] is True
    assert kept.provenance["workload"].startswith("ISL 256 / OSL 16, concurrency 8, seed 1")
    (raw,) = kept.provenance["raw"]
    assert raw in artefacts().list("cycles", RUN.cycle_id, "recordings")
    place.called.clear()
    assert experts.dump("local", "recorded", RUN) == uris, "a retry finds what was written"
    assert place.called == []


def test_a_worker_that_writes_nothing_is_named(planned, monkeypatch, tmp_path):
    place = use(monkeypatch, Place(tmp_path, planned, drawn(planned)))
    monkeypatch.setattr(place, "call", lambda *_args, **_more: "ok")
    monkeypatch.setattr(collect, "_PATIENCE_S", 0.0)
    with pytest.raises(TargetError, match=r"prefill-0 of recorded .* 0 of 1 ranks wrote"):
        experts.dump("local", "recorded", RUN)


def test_another_models_recording_is_not_kept(planned, monkeypatch, tmp_path):
    use(monkeypatch, Place(tmp_path, planned, lambda _role: np.ones((5, 16), dtype=np.int64)))
    with pytest.raises(Refused, match="another model"):
        experts.dump("local", "recorded", RUN)


def test_modes_of_several_files_are_waited_for_on_every_rank(planned):
    for mode, files in (("stat", 1), ("stat_approx", 1), ("per_pass", 4), ("per_token", 4)):
        spec = planned.model_copy(update={"record_experts": mode})
        assert collect.ranks_writing(spec, spec.worker("decode")) == files
    found = [Path(f"expert_distribution_recorder_{t}_{r}.pt") for t in (1.5, 2.5) for r in (0, 1)]
    assert collect._latest(found, sglang_recorder()) == found[2:], "of an earlier dump nothing is taken"


def analysed(planned, monkeypatch, tmp_path):
    use(monkeypatch, Place(tmp_path / "first", planned, drawn(planned)))
    before = experts.examine("local", "recorded", RUN)
    experts.analyse(PARAMS, before.recordings, RUN)
    return before


def test_the_advised_redundancy_is_what_is_placed(planned, monkeypatch, tmp_path):
    analysed(planned, monkeypatch, tmp_path)
    uris = artefacts().list("cycles", RUN.cycle_id, "experts")
    reports = [RoleReport.model_validate(artefacts().read_json(uri)) for uri in uris]
    assert {r.role for r in reports} == {"prefill", "decode"}
    placed = after(planned)
    for report in reports:
        knobs = placed.worker(report.role).knobs
        assert knobs.redundant_experts == report.redundant == report.own.redundant
        assert knobs.eplb == "static"
        read(Path(knobs.expert_placement), report.ep, report.experts, layers=planned.model.num_layers)
        assert min(report.after) > min(report.before)
    with open_store() as store:
        assert {r.role for r in store.recordings(RUN.cycle_id)} == {"prefill", "decode"}


def measure(pairs=((100, 110), (102, 113))):
    with open_store() as store:
        store.put(
            *(
                measurement(tok_s, cycle_id=RUN.cycle_id, label=side, repeat=k, purpose="experts", concurrency=8)
                for k, pair in enumerate(pairs)
                for side, tok_s in zip((IN_ORDER, PLACED), pair, strict=True)
            )
        )


def test_a_placement_in_effect_is_proven(planned, monkeypatch, tmp_path):
    before = analysed(planned, monkeypatch, tmp_path)
    measure()
    use(monkeypatch, Place(tmp_path / "second", after(planned), drawn(planned, seed=1)))
    found = experts.compare(PARAMS, before, experts.examine("local", "placed", RUN), RUN)
    assert {p.state for p in found.proofs.values()} == {"honoured"}
    for role, proof in found.proofs.items():
        assert proof.before < proof.measured <= proof.predicted, role
    assert found.outputs.state == "same"
    assert found.simulated and "output tok/s" in found.verdict
    kept = artefacts().list("cycles", RUN.cycle_id, "experts")
    assert Comparison.model_validate(artefacts().read_json(next(u for u in kept if "comparison" in u))) == found


def test_an_ignored_placement_is_noticed_and_so_are_wrong_answers(planned, monkeypatch, tmp_path):
    before = analysed(planned, monkeypatch, tmp_path)
    measure()
    spec = after(planned)

    def ignored(role):
        worker = spec.worker(role)
        placement = read(Path(worker.knobs.expert_placement), worker.layout.ep, spec.model.num_experts)
        return ignoring(drawn(planned, seed=1)(role).astype(float), placement)

    use(monkeypatch, Place(tmp_path / "second", spec, ignored, say=lambda prompt: f"?{prompt}"))
    found = experts.compare(PARAMS, before, experts.examine("local", "placed", RUN), RUN)
    assert {p.state for p in found.proofs.values()} == {"ignored"}
    assert found.outputs.state == "different"
    assert found.verdict.startswith("Not proven") and "0.5.23" in found.verdict


def test_online_balancing_is_read_from_its_log(planned, monkeypatch, tmp_path):
    before = analysed(planned, monkeypatch, tmp_path)
    measure()
    params = {**PARAMS, "eplb": "online", "eplb_rebalance_iterations": 100}
    request = Request.from_params(params)
    spec = experts.placed_spec(request, request.spec("placed"), RUN)
    assert {(w.knobs.eplb, w.knobs.eplb_rebalance_iterations) for w in spec.workers} == {("online", 100)}
    place = use(monkeypatch, Place(tmp_path / "second", spec, drawn(planned)))
    place.log = ("[EPLBManager] rebalance end time=0.112s",)
    seen = experts.examine("local", "placed", RUN)
    assert seen.recordings == {}, "a rebalance resets the recorder"
    found = experts.compare(params, before, seen, RUN)
    assert found.eplb == "online" and found.proofs == {}
    assert {c: r.stopped_s for c, r in found.rebalances.items()} == {"prefill-0": 0.112, "decode-0": 0.112}
    assert {c: r.by_mode for c, r in found.rebalances.items()} == {"prefill-0": {}, "decode-0": {}}
    place.page = lambda: (
        'sglang:eplb_balancedness_sum{forward_mode="decode"} 1.8\n'
        'sglang:eplb_balancedness_count{forward_mode="decode"} 2.0\n'
    )
    seen = experts.examine("local", "placed", RUN)
    assert {c: r.by_mode for c, r in seen.rebalances.items()} == {c: {"decode": 0.9} for c in seen.rebalances}


def test_a_frontend_that_does_not_answer_leaves_answers_out(planned, monkeypatch, tmp_path):
    def silent(_prompt):
        raise TargetError("no answer")

    use(monkeypatch, Place(tmp_path, planned, drawn(planned), say=silent))
    assert experts.examine("local", "recorded", RUN).answers is None


def test_nothing_is_compared_that_was_not_measured(planned, monkeypatch, tmp_path):
    before = analysed(planned, monkeypatch, tmp_path)
    with pytest.raises(WideloopError, match="both sides"):
        experts.compare(PARAMS, before, before, RUN)


def test_without_a_recording_nothing_is_placed(planned):
    with pytest.raises(TargetError, match="no placement of 0 redundant experts"):
        after(planned)


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"recorder": "per_token"}, "only the recorder's modes"),
        ({"recorder": "stat_approx"}, "stat_approx reads the counts of DeepEP"),
        ({"recorded_passes": 0}, "keeps no pass"),
    ],
)
def test_what_would_fail_after_the_first_deployment_is_refused_before_it(wideloop_home, asked, rule):
    with pytest.raises(Refused, match=rule):
        plan({**PARAMS, **asked}, RUN, records=True)


def test_an_aggregated_worker_that_is_placed_by_deepep_only_is_compared_to_the_end(
    wideloop_home, monkeypatch, tmp_path
):
    params = PARAMS | {
        "target": "dynamo", "engine": "dynamo-sglang", "model": "Qwen3-30B-A3B-FP8", "hardware": "h200-2"
    }  # fmt: skip
    plan(params, RUN, records=True, compares_placed=True)
    request = Request.from_params(params)
    recorded = request.recorded(request.comparable(request.spec("recorded")))
    assert recorded.record_experts == "stat"
    use(monkeypatch, Place(tmp_path, recorded, drawn(recorded)))
    before = experts.dump("dynamo", "recorded", RUN)
    experts.analyse(params, before, RUN)
    placed = experts.placed_spec(request, request.comparable(request.spec("placed")), RUN)
    (worker,) = placed.workers
    assert (worker.knobs.deepep_mode, worker.knobs.eplb) == ("normal", "static")
    assert experts.prove(request, before, before, RUN).keys() == {"aggregated"}
