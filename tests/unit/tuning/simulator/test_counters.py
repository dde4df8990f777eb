from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from wideloop.tuning.simulator.counters import FRONTEND_FILE, Counters, totals

#: Lines as dynamo 1.6.1 publishes them.
DECODE = """# TYPE sglang:num_requests_total counter
dynamo_component_inflight_requests{dynamo_component="backend",worker_id="abd"} 3
dynamo_component_requests_total{dynamo_component="backend",worker_id="abd"} 2
sglang:inter_token_latency_seconds_count{engine_type="sglang",model_name="m"} 6
sglang:num_requests_total{engine_type="sglang",model_name="m"} 2
"""
FRONTEND = """dynamo_frontend_input_sequence_tokens_sum{model="m"} 3000
dynamo_frontend_input_sequence_tokens_count{model="m"} 2
"""


@pytest.fixture
def page():
    """A server whose /metrics the test sets."""

    class Handler(BaseHTTPRequestHandler):
        text = ""

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(Handler.text.encode())

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield Handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_totals_sum_over_label_sets():
    assert totals('a{x="1"} 2\na{x="2"} 3\nb 4\n# a 9\n') == {"a": 5, "b": 4}
    assert totals('a{x="1"} 2\na{x="2"} 3\n', 'x="2"') == {"a": 3}


def test_decode_counts_generated_tokens(page, tmp_path):
    handler, url = page
    handler.text = DECODE
    counters = Counters("decode", url, tmp_path)
    assert counters.tokens() == 8
    assert counters.inflight() == 3


def test_prefill_counts_its_requests_times_the_routers_mean_prompt(page, tmp_path):
    handler, url = page
    handler.text = DECODE + FRONTEND
    (tmp_path / FRONTEND_FILE).write_text(url + "\n")
    assert Counters("prefill", url, tmp_path).tokens() == 3000
    assert Counters("aggregated", url, tmp_path).tokens() == 3008


def test_a_worker_that_does_not_answer_yet_is_idle(tmp_path):
    counters = Counters("decode", "http://127.0.0.1:1", tmp_path)
    assert counters.inflight() == 0
    assert counters.metrics() == ""
