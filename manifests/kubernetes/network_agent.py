"""Send data between the RDMA devices of this node and of others, when told to over HTTP.

Runs in an engine's image, in which this project is not installed: the standard library only. ``GET /`` says what the
node has, ``POST /serve`` and ``POST /connect`` are the two ends of some lanes: one device here and one there, all at
once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DEVICES = Path(os.environ.get("WIDELOOP_INFINIBAND", "/sys/class/infiniband"))
#: Seconds until the servers of lanes listen, and for a lane that does not end.
LISTENS_S = float(os.environ.get("WIDELOOP_LISTENS_S", "1.5"))
LANE_S = 40.0
#: Two GPUs that add up 64 MiB through the one device each that NCCL may use.
TORCH = """
import datetime, sys, time, torch, torch.distributed as dist
host, port, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
limit = datetime.timedelta(seconds=30)
dist.init_process_group("nccl", init_method=f"tcp://{host}:{port}", rank=rank, world_size=2, timeout=limit)
data = torch.ones(1 << 24, device="cuda")
dist.all_reduce(data)
torch.cuda.synchronize()
began = time.monotonic()
for _ in range(10):
    dist.all_reduce(data)
torch.cuda.synchronize()
print("gbit", 10 * data.numel() * 32 / (time.monotonic() - began) / 1e9)
"""
Lane = dict[str, Any]
servers: list[subprocess.Popen[str]] = []


def node() -> dict[str, Any]:
    """What the node has: its devices, whether their first ports are up, and the tools of the image."""
    devices = [
        {"name": device.name, "active": "ACTIVE" in read(device / "ports" / "1" / "state")}
        for device in (sorted(DEVICES.iterdir()) if DEVICES.is_dir() else ())
    ]
    tools = [tool for tool in ("ib_write_bw",) if shutil.which(tool)]
    tools += ["torch"] if importlib.util.find_spec("torch") else []
    return {"node": os.environ.get("NODE_NAME", ""), "devices": devices, "tools": tools}


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def start(tool: str, lane: Lane, peer: str) -> subprocess.Popen[str]:
    """The process at one end of a lane; ``peer`` is the address of the end that serves, empty at that end."""
    env = dict(os.environ)
    if tool == "ib_write_bw":
        argv = [
            tool,
            "-d",
            lane["device"],
            "-p",
            str(lane["port"]),
            "-F",
            "--report_gbits",
            "-s",
            "65536",
            "-n",
            "1000",
        ]
        argv += ["-x", env["NCCL_IB_GID_INDEX"]] if env.get("NCCL_IB_GID_INDEX") else []
        argv += [peer] if peer else []
    else:
        env |= {"NCCL_NET": "IB", "NCCL_IB_HCA": "=" + lane["device"], "CUDA_VISIBLE_DEVICES": str(lane["gpu"])}
        argv = [sys.executable, "-c", TORCH, peer or "127.0.0.1", str(lane["port"]), "1" if peer else "0"]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def serve(tool: str, lanes: list[Lane]) -> dict[str, Any]:
    """Start the serving ends; those of earlier lanes are ended."""
    while servers:
        servers.pop().kill()
    servers.extend(start(tool, lane, "") for lane in lanes)
    time.sleep(LISTENS_S if tool == "ib_write_bw" else 0)
    return {}


def connect(tool: str, lanes: list[Lane]) -> list[dict[str, Any]]:
    """Send over all lanes at once; Gbit/s of each, or what went wrong."""
    with ThreadPoolExecutor(max(1, len(lanes))) as pool:
        return list(pool.map(lambda lane: send(tool, lane), lanes))


def send(tool: str, lane: Lane) -> dict[str, Any]:
    process = start(tool, lane, lane["peer"])
    try:
        output, _ = process.communicate(timeout=LANE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"gbit": 0.0, "error": f"{tool} had not ended after {LANE_S:.0f} s"}
    lines = [line.split() for line in output.splitlines() if line.strip()]
    figures = [line for line in lines if line[0] in ("65536", "gbit")]
    if process.returncode or not figures:
        return {"gbit": 0.0, "error": " ".join(lines[-1]) if lines else f"{tool} ended with {process.returncode}"}
    return {"gbit": float(figures[-1][3 if tool == "ib_write_bw" else 1]), "error": ""}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(node())

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        serves = self.path == "/serve"
        self.answer(serve(order["tool"], order["lanes"]) if serves else connect(order["tool"], order["lanes"]))

    def answer(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
