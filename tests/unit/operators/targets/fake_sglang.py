"""A small server in the place of an SGLang server on GPUs: the same command line, routes and hand-over of a request.

Prefill leaves word of each request at its bootstrap port, where decode fetches it before it answers: so an answer has
come from both, at the addresses that were rendered. Standard library only; run as ``python -m ...sglang_server`` is.
"""

import http.client
import http.server
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path

_ROUTES = ("flush_cache", "start_expert_distribution_record", "dump_expert_distribution_record")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def serve(flags):
    """Until it is ended; ``flags`` are SGLang's."""
    option = dict(itertools.pairwise(flags))
    role, host, port = option["--disaggregation-mode"], option["--host"], int(option["--port"])
    Path("environment.json").write_text(json.dumps(dict(os.environ)))
    Path("flags.json").write_text(json.dumps(flags))
    rooms = {}

    class Server(Handler):
        def do_GET(self):
            self.reply(200 if self.path.startswith("/health") else 404, {})

        def do_POST(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            route = self.path.strip("/").partition("?")[0]
            if route in _ROUTES:
                with Path("posted").open("a") as posted:
                    posted.write(f"{route}\n")
                if route.startswith("dump"):
                    folder = Path(os.environ["SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR"])
                    (folder / "expert_distribution_recorder_1.pt").write_bytes(b"")
                self.reply(200, {})
            elif self.path != "/v1/chat/completions":
                self.reply(404, {})
            elif role == "prefill":
                rooms[body["bootstrap_room"]] = body["messages"]
                self.reply(200, {"choices": []})
            else:
                words = fetched(body)
                self.reply(200, {
                    "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                    "choices": [{"index": 0, "message": {"role": "assistant", "content": words}}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
                })  # fmt: skip

    class Bootstrap(Handler):
        def do_GET(self):
            room = int(self.path.strip("/"))
            self.reply(200 if room in rooms else 404, rooms.pop(room, None))

    if role == "prefill":
        bootstrap = int(option["--disaggregation-bootstrap-port"])
        meeting = http.server.ThreadingHTTPServer((os.environ["SGLANG_HOST_IP"], bootstrap), Bootstrap)
        threading.Thread(target=meeting.serve_forever, daemon=True).start()
    print("The server is fired up and ready to roll!", flush=True)
    http.server.ThreadingHTTPServer((host, port), Server).serve_forever()


def fetched(body):
    """What prefill left for this request."""
    for _ in range(200):
        asked = http.client.HTTPConnection(body["bootstrap_host"], body["bootstrap_port"], timeout=5)
        asked.request("GET", f"/{body['bootstrap_room']}")
        answer = asked.getresponse()
        if answer.status == 200:
            return f"prefilled: {json.loads(answer.read())[0]['content']}"
        time.sleep(0.01)
    return ""


def main(argv):
    if argv[0] == "standby":
        handover = Path(argv[1])
        while not handover.exists():
            time.sleep(0.02)
        order = json.loads(handover.read_text())
        os.environ.update(order["env"])
        argv = order["argv"][order["argv"].index("serve") :]
    serve(argv[argv.index("--") + 1 :])


main(sys.argv[sys.argv.index("wideloop.manifests.engine_side.sglang_server") + 1 :])
