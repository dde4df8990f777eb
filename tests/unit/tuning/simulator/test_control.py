"""SGLang's routes over HTTP, against a worker whose activity the test decides."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from wideloop.results import recordings
from wideloop.tuning.balance import drift
from wideloop.tuning.placement import place
from wideloop.tuning.placement.files import to_sglang
from wideloop.tuning.simulator.control import Control
from wideloop.tuning.simulator.plan import WorkerPlan
from wideloop.tuning.simulator.recorder import Recorder

from tests.unit.tuning.test_memory import deployment


class Activity:
    """Stands in for the mocker's metrics."""

    def __init__(self):
        self.requests, self.processed, self.page = 0, 0.0, "sglang:num_requests_total 0\n"

    def metrics(self):
        return self.page

    def inflight(self):
        return self.requests

    def tokens(self):
        return self.processed


@pytest.fixture
def worker(tmp_path):
    spec = deployment("DeepSeek-R1", "h200-16").model_copy(update={"record_experts": "stat"})
    plan, activity = WorkerPlan.of(spec, "decode"), Activity()
    server = Control(plan, activity, Recorder(plan, activity, tmp_path)).serve("127.0.0.1", 0)
    yield plan, activity, f"http://127.0.0.1:{server.server_port}", tmp_path
    server.shutdown()
    server.server_close()


def post(url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=b"", method="POST"), timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_flush_is_refused_while_busy(worker):
    _, activity, url, _ = worker
    assert post(f"{url}/flush_cache")[0] == 200
    activity.requests = 3
    assert post(f"{url}/flush_cache") == (400, "Flush cache failed.\n")
    assert post(f"{url}/flush_cache?timeout=0.2")[0] == 400
    assert post(f"{url}/no_such_route")[0] == 404


def test_a_recording_counts_the_tokens_of_its_window_and_is_read_back(worker):
    plan, activity, url, folder = worker
    activity.processed = 1000
    assert post(f"{url}/start_expert_distribution_record")[1].startswith("Start recording")
    activity.processed = 6000
    assert post(f"{url}/stop_expert_distribution_record")[0] == 200
    activity.processed = 9000
    assert post(f"{url}/dump_expert_distribution_record")[1].startswith("Dump")
    (file,) = folder.glob("expert_distribution_recorder_*.pt")
    counts = recordings.read_dumps(file).total
    assert counts.shape == (61, 256)
    assert not counts[:3].any()
    assert recordings.tokens(counts, top_k=8, copies=8) == 5000
    shares = counts[3:] / counts[3:].sum(axis=1, keepdims=True)
    assert np.corrcoef(shares.ravel(), plan.popularity.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("deepep", [None, "low_latency"])
def test_every_rank_writes_its_passes(tmp_path, deepep):
    spec = deployment("DeepSeek-R1", "h200-16").model_copy(update={"record_experts": "per_pass"})
    load = np.vstack([np.zeros((3, 256)), WorkerPlan.of(spec, "decode").popularity])
    (tmp_path / "placement.json").write_text(to_sglang(place(load, 8, 16)))
    knobs = {"deepep_mode": deepep, "redundant_experts": 16, "expert_placement": str(tmp_path / "placement.json")}
    changed = spec.worker("decode").knobs.model_copy(update=knobs)
    plan, activity = WorkerPlan.of(spec.with_knobs("p", {"decode": changed}), "decode"), Activity()
    recorder = Recorder(plan, activity, tmp_path)
    recorder.start()
    activity.processed = 5000
    recorder.dump()
    files = list(tmp_path.glob("expert_distribution_recorder_*.pt"))
    copies = 8 if deepep is None else 1
    found = recordings.read_dumps(files, "decode", layers=61, experts=256, ranks=8, copies=copies)
    assert found.tokens(top_k=8) == 5000
    assert found.dense == (0, 1, 2)
    assert drift(found.total, load, 8).correlation.min() > 0.98


def test_metrics_say_what_they_are(worker):
    plan, _, url, _ = worker
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:
        page = response.read().decode()
    assert f'sglang:max_total_num_tokens{{simulated="true",role="decode"}} {plan.memory.kv_tokens}' in page
    with urllib.request.urlopen(f"{url}/server_info", timeout=5) as response:
        assert json.load(response)["simulated"] is True


def test_probes_are_answered_as_by_a_worker_of_dynamo(worker):
    _, activity, url, _ = worker
    assert [post(f"{url}{path}")[0] for path in ("/live", "/health")] == [200, 200]
    activity.page = ""  # The mocker does not answer yet.
    assert [post(f"{url}{path}")[0] for path in ("/live", "/health")] == [200, 503]


def test_without_recorder_mode_recording_is_refused(tmp_path):
    plan, activity = WorkerPlan.of(deployment("DeepSeek-R1", "h200-16"), "decode"), Activity()
    server = Control(plan, activity, Recorder(plan, activity, tmp_path)).serve("127.0.0.1", 0)
    try:
        status, body = post(f"http://127.0.0.1:{server.server_port}/start_expert_distribution_record")
    finally:
        server.shutdown()
        server.server_close()
    assert status == 500 and "expert_distribution_recorder_mode" in body


def test_a_placement_file_changes_the_timing(tmp_path):
    spec = deployment("DeepSeek-R1", "h200-32")
    before = WorkerPlan.of(spec, "decode")
    load = np.vstack([np.zeros((3, 256)), before.popularity])
    file = tmp_path / "placement.json"
    file.write_text(to_sglang(place(load, 16, 0)))
    knobs = spec.worker("decode").knobs.model_copy(update={"expert_placement": str(file)})
    after = WorkerPlan.of(spec.with_knobs("u", {"decode": knobs}), "decode")
    assert after.timing.imbalance < before.timing.imbalance - 0.2


def test_the_timing_table_is_the_model_where_batches_are_whole(tmp_path):
    plan = WorkerPlan.of(deployment("Qwen3-30B-A3B-FP8", "l4-8", cuda_graph_max_bs=8), "decode")
    plan.write_table(tmp_path / "t.npz")
    table = np.load(tmp_path / "t.npz")
    kv, context, itl = table["decode_active_kv_tokens"], table["decode_context_length"], table["decode_itl"]
    assert itl.shape == (len(kv), len(context))
    for batch in (1, 4, 8, 9, 12):
        column = np.searchsorted(context, 2000)
        row = np.argmin(abs(kv - batch * context[column]))
        step = float(plan.timing.decode_ms(batch, context[column]))
        assert itl[row, column] == pytest.approx(step, rel=0.02)
    assert float(plan.timing.decode_ms(9, 2000)) > 1.5 * float(plan.timing.decode_ms(8, 2000))
