"""One process of the fake engine: NAME PORT MODEL_DIR. Standard library only."""

import http.server
import json
import os
import sys
import threading
import time
from pathlib import Path

name, port, model_dir = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


def behaviour() -> str:
    return json.loads((model_dir / "behaviour.json").read_text()).get(name, "answer")


does = behaviour()
STARTED = time.monotonic()
Path("environment.json").write_text(json.dumps(dict(os.environ)))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        if self.path != "/v1/chat/completions":
            with Path("posted").open("a") as posted:
                posted.write(f"{self.path}\n")
            self.send_response(503 if does == "refuse" else 200)
            self.end_headers()
            self.wfile.write(b"said so")
            return
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked.get("stream"):
            self.stream(asked)
            return
        Path("asked.json").write_text(json.dumps(asked))
        answer = {"choices": [{"message": {"content": "yes"}}], "usage": {"completion_tokens": asked["max_tokens"]}}
        if does == "tokenless":
            answer["usage"]["completion_tokens"] = 0
        self.send_response(503 if behaviour() == "refuse" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def do_GET(self) -> None:
        """A metrics page, as an exporter for Prometheus writes it."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"fake:uptime_seconds {time.monotonic() - STARTED}\n".encode())

    def stream(self, asked: dict) -> None:
        """One event per token, then what was counted."""
        self.send_response(503 if does == "refuse" else 200)
        self.end_headers()
        prompt = sum(len(message["content"].split()) for message in asked["messages"])
        usage = {"prompt_tokens": prompt, "completion_tokens": asked["max_tokens"]}
        tokens = [{"choices": [{"delta": {"content": "yes "}}]} for _ in range(asked["max_tokens"])]
        for event in (*tokens, {"choices": [], "usage": usage}):
            time.sleep(0.005)
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())


def die(word: str) -> None:
    print("loading weights", flush=True)
    print("RuntimeError: CUDA out of memory" if word == "out-of-memory" else "lost my peer", flush=True)
    os._exit(137 if word == "out-of-memory" else 1)


if does in ("die", "out-of-memory"):
    die(does)
if does == "die-later":
    threading.Timer(0.6, die, ["die"]).start()
if does != "mute":
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
time.sleep(600)
