"""A load generator in a few lines: URL OUT_FILE WORKLOAD(JSON). Standard library only.

Each slot of a level sends one request after the other; every request leaves a line in OUT_FILE.
"""

import json
import sys
import threading
import time
import urllib.request
from pathlib import Path

WARM_UP = -1


def send(url: str, isl: int, osl: int) -> dict:
    """One streamed request: when it was sent, when its first token and its end came, what the server counted."""
    messages = [{"role": "user", "content": "word " * isl}]
    body = json.dumps({"model": "m", "messages": messages, "max_tokens": osl, "stream": True}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    start, first, usage = time.time(), 0.0, {}
    with urllib.request.urlopen(request, timeout=30) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                first = first or time.time()
                usage = json.loads(line[6:]).get("usage") or usage
    tokens = {"prompt": usage["prompt_tokens"], "tokens": usage["completion_tokens"]}
    return {"start": start, "first": first, "end": time.time(), **tokens}


def slot(url: str, level: int, requests: int, workload: dict, lines: list) -> None:
    for _ in range(requests):
        issued = time.time()
        try:
            lines.append({"level": level, "issued": issued, **send(url, workload["isl"], workload["osl"])})
        except (OSError, ValueError, KeyError) as error:
            lines.append({"level": level, "error": str(error)})


def main(url: str, out_file: str, workload: dict) -> None:
    lines: list = []
    slot(url, WARM_UP, workload["warmup_requests"], workload, lines)
    for level, concurrency in enumerate(workload["concurrency"]):
        arguments = (url, level, workload["requests_per_slot"], workload, lines)
        slots = [threading.Thread(target=slot, args=arguments) for _ in range(concurrency)]
        for thread in slots:
            thread.start()
        for thread in slots:
            thread.join()
    with Path(out_file).open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    print(f"closed-loop: {len(lines)} requests ended")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
