"""Start SGLang's server; ``standby`` imports everything first and receives the server's flags later.

    python -m wideloop.manifests.engine_side.sglang_server serve [--kernel-file NAME --kernel-dir DIR] -- FLAGS...
    python -m wideloop.manifests.engine_side.sglang_server standby HANDOVER --processes N

A server spends 30 of the 40 seconds of its start importing Python modules, in three processes one after the other
(measured, 0.5.17). A standby does that while another server is measured: it imports, lets its children import, and
touches no GPU until the file HANDOVER appears, with the ``serve`` command line and environment as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wideloop.manifests.engine_side import kernel_files

_SERVER_MODULES = ("sglang.launch_server", "sglang.srt.entrypoints.http_server")
_WORKER_MODULES = ("sglang.srt.managers.scheduler", "sglang.srt.managers.detokenizer_manager")
_KERNELS = "srt/layers/moe/moe_runner/triton_utils"
_LOOK_AGAIN_S = 0.02


def serve(options: Sequence[str]) -> None:
    """Run the server until it ends; ``options`` are those after the word ``serve``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel-file", default="", help="tuned file that the fused-MoE kernel will look for")
    parser.add_argument("--kernel-dir", type=Path, help="folder for a copy when SGLang has no such file")
    ours, flags = parser.parse_args(_before(options)), _after(options)
    if ours.kernel_file and ours.kernel_dir:
        _provide_kernel(ours.kernel_file, ours.kernel_dir)
    from sglang.launch_server import run_server
    from sglang.srt.plugins import load_plugins
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    load_plugins()
    try:
        run_server(prepare_server_args(list(flags)))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


def standby(handover: Path, processes: int) -> None:
    """Import, wait for the file ``handover``, then run the command line in it."""
    pool = [_Prepared() for _ in range(processes)]
    for module in _SERVER_MODULES:
        importlib.import_module(module)
    print("standby: imported, waiting", flush=True)
    while not handover.exists():
        time.sleep(_LOOK_AGAIN_S)
    order = json.loads(handover.read_text())
    print("standby: taking over", flush=True)
    os.environ.update(order["env"])
    from sglang.srt.entrypoints import engine

    engine.mp = _Multiprocessing(pool)
    argv = order["argv"]
    serve(argv[argv.index("serve") + 1 :])


class _Multiprocessing:
    """The module ``multiprocessing``, except that ``Process`` uses processes that were started beforehand."""

    def __init__(self, pool: list[_Prepared]) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(multiprocessing, name)

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802
        process = multiprocessing.Process(*args, **kwargs)
        return _Handed(self._pool, process, kwargs)


class _Handed:
    """A process that runs its target in a prepared child, or in a new process when no prepared one fits."""

    def __init__(self, pool: list[_Prepared], process: Any, call: dict[str, Any]) -> None:
        self._pool = pool
        self._process = process
        self._call = call

    def start(self) -> None:
        # To bind to a NUMA node SGLang starts the interpreter through numactl, which needs a new process.
        bound = os.fsdecode(multiprocessing.spawn.get_executable()) != sys.executable
        if bound or not self._pool or "target" not in self._call:
            self._process.start()
            return
        prepared = self._pool.pop(0)
        prepared.run(self._call["target"], self._call.get("args", ()), self._call.get("kwargs", {}))
        self._process = prepared.process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)


class _Prepared:
    """A child process that has imported what SGLang's workers import and waits for a target to run."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        theirs, self._ours = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_prepared, args=(theirs,))
        self.process.start()
        theirs.close()

    def run(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._ours.send((dict(os.environ), target, args, kwargs))


def _prepared(orders: Any) -> None:
    """Main function of the child."""
    for module in _WORKER_MODULES:
        importlib.import_module(module)
    try:
        environ, target, args, kwargs = orders.recv()
    except EOFError:
        return  # The standby was ended before it was needed.
    os.environ.update(environ)
    target(*args, **kwargs)


def _provide_kernel(name: str, own: Path) -> None:
    import sglang
    import triton

    stock = Path(sglang.__path__[0]) / _KERNELS
    donor = kernel_files.provide(stock, name, own, triton.__version__)
    if donor is not None:
        os.environ["SGLANG_MOE_CONFIG_DIR"] = str(own)
        print(f"no tuned kernel {name}: taking the tiles of {donor.parent.name}/{donor.name}", flush=True)


def _before(options: Sequence[str]) -> Sequence[str]:
    return options[: options.index("--")] if "--" in options else options


def _after(options: Sequence[str]) -> Sequence[str]:
    return options[options.index("--") + 1 :] if "--" in options else ()


def main(argv: Sequence[str]) -> None:
    """Command line of this module."""
    if argv[:1] == ["serve"]:
        serve(argv[1:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["standby"])
    parser.add_argument("handover", type=Path)
    parser.add_argument("--processes", type=int, required=True)
    args = parser.parse_args(argv)
    standby(args.handover, args.processes)


if __name__ == "__main__":
    main(sys.argv[1:])
