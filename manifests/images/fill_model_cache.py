"""Fill one folder of a model cache, unless it is complete: the program of the Job that prepares weights.

It runs by itself in the benchmark client's container, or in an engine's, next to a copy of ``model_files.py``.
The folder appears only when all of its files are complete; until then the files are in ``<folder>.partial``, where
the next try resumes. The result, a JSON object, is written to the file that ``WIDELOOP_RESULT`` names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from wideloop.manifests import model_files
else:
    sys.path.insert(0, str(Path(__file__).parent))
    import model_files

_REVISION = ".wideloop-revision"
_REPORT_S = 10.0
#: Seconds after which a download that adds no byte has stalled; checking a shard on disk takes less.
_STALL_S = 900.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repository", help="of the Hugging Face hub")
    parser.add_argument("--revision", help="commit to download; the newest when there is none")
    parser.add_argument("--stall-s", type=float, default=_STALL_S, help="seconds without a byte that end a download")
    parser.add_argument("--verify", action="store_true", help="only verify <folder>, and change nothing")
    parser.add_argument("--without-weights", action="store_true", help="with --verify: of an engine that loads none")
    parser.add_argument("--make", nargs=argparse.REMAINDER, help="command that makes the files in <folder>.partial")
    args = parser.parse_args()
    if args.verify:
        _verify(args.folder, needs_weights=not args.without_weights)
        _write_result(args.folder, reused=True)
        return
    needs_weights = not args.make
    partial = args.folder.with_name(args.folder.name + ".partial")
    reused = _is_complete(args.folder, partial, needs_weights)
    if not reused:
        partial.mkdir(parents=True, exist_ok=True)
        if args.make:
            _make(args.make, partial)
        else:
            _download(args.repository, args.revision, partial, args.stall_s)
        try:
            model_files.check(partial, needs_weights=needs_weights)
        except model_files.Incomplete as incomplete:
            # Removed, so that the next try downloads it again.
            if incomplete.path.is_file():
                incomplete.path.unlink()
            sys.exit(f"after the download {incomplete}. Start the task again: complete files are kept")
        partial.rename(args.folder)
    _write_result(args.folder, reused=reused)


def _write_result(folder: Path, *, reused: bool) -> None:
    note = folder / _REVISION
    revision = note.read_text() if note.is_file() else ""
    measured = model_files.measure(folder)
    result = {"reused": reused, "revision": revision, **measured}
    print(f"{folder} is complete: {measured['files']} files, {measured['bytes'] / 1e9:.1f} GB", flush=True)
    Path(os.environ["WIDELOOP_RESULT"]).write_text(json.dumps(result))


def _verify(folder: Path, *, needs_weights: bool) -> None:
    """End with what is wrong with a folder that is not this project's to mend."""
    try:
        if not folder.is_dir():
            sys.exit(f"{folder} is no directory in pods: check the path, and that the claim or every node has it")
        model_files.check(folder, needs_weights=needs_weights)
    except (model_files.Incomplete, OSError) as error:
        sys.exit(f"{error}. Complete the folder, or give the model's hub id")


def _is_complete(folder: Path, partial: Path, needs_weights: bool) -> bool:
    if not folder.is_dir():
        return False
    try:
        model_files.check(folder, needs_weights=needs_weights)
    except model_files.Incomplete as incomplete:
        print(f"{incomplete}: downloading it again", flush=True)
        if incomplete.path.is_file():
            incomplete.path.unlink()
        shutil.rmtree(partial, ignore_errors=True)
        folder.rename(partial)
        return False
    return True


def _make(command: list[str], partial: Path) -> None:
    shutil.rmtree(partial)
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} {command[1]} ... failed with {done.returncode}")


def _download(repository: str, revision: str | None, partial: Path, stall_s: float) -> None:
    from huggingface_hub import snapshot_download

    try:
        commit, sizes = model_files.list_repository(repository, revision)
    except model_files.HubAnswer as answer:
        _end(answer)
    wanted = list(sizes)
    total = sum(sizes[name] for name in wanted)
    there = _on_disk(partial)
    free = shutil.disk_usage(partial).free
    print(f"{repository} at {commit}: {len(wanted)} files, {total / 1e9:.1f} GB, {there / 1e9:.1f} on disk", flush=True)
    if free < total - there:
        sys.exit(f"the claim has {free / 1e9:.1f} GB free and needs {(total - there) / 1e9:.1f} GB more: enlarge it")
    (partial / _REVISION).write_text(commit)
    over = threading.Event()
    reporter = threading.Thread(target=_report, args=(partial, total, stall_s, over), daemon=True)
    reporter.start()
    try:
        snapshot_download(repository, revision=commit, local_dir=partial, ignore_patterns=model_files.IGNORED)
    except Exception as error:
        if not model_files.hub_answer(repository, error).passing:
            _end(model_files.hub_answer(repository, error))
        _end_for_retry(f"the download broke off: {type(error).__name__}: {error}. Complete files are kept")
    finally:
        over.set()
        reporter.join()
    for name in wanted:
        size = (partial / name).stat().st_size
        if size != sizes[name]:
            (partial / name).unlink()
            _end_for_retry(f"{name} has {size} bytes where the hub has {sizes[name]}")


def _end(answer: model_files.HubAnswer) -> NoReturn:
    """End for another try where that may help, for good where it cannot."""
    if answer.passing:
        _end_for_retry(str(answer))
    sys.exit(str(answer))


def _end_for_retry(reason: str) -> NoReturn:
    """End with the status that makes the Job try again; every other failure ends the Job."""
    print(reason, file=sys.stderr, flush=True)
    sys.exit(os.EX_TEMPFAIL)


def _report(partial: Path, total: int, stall_s: float, over: threading.Event) -> None:
    """Print progress every few seconds; end the process, for another try, after ``stall_s`` without a byte."""
    began = grown = time.monotonic()
    before = last = _on_disk(partial)
    while not over.wait(min(_REPORT_S, stall_s)):
        there, now = _on_disk(partial), time.monotonic()
        if there != last:
            last, grown = there, now
        rate = (there - before) / (now - began)
        left = f"no byte for {now - grown:.0f} s"
        if rate > 0 and grown == now:
            left = f"{(total - there) / rate / 60:.0f} min left"
        print(f"{there / 1e9:.1f} of {total / 1e9:.1f} GB, {rate / 1e6:.0f} MB/s, {left}", flush=True)
        if now - grown >= stall_s and not over.is_set():
            reason = f"the download stalled: no byte for {stall_s / 60:.3g} min. Check the pod's route to the hub "
            reason += "(proxy, egress rules, HF_ENDPOINT) and the claim's file system. Files on disk are kept"
            print(reason, file=sys.stderr, flush=True)
            # The main thread waits for the download; sys.exit would end this thread only.
            os._exit(os.EX_TEMPFAIL)


def _on_disk(folder: Path) -> int:
    """Bytes under ``folder``, unfinished files included; files may appear and disappear meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        try:
            # Bytes written; st_size would count bytes that are only reserved.
            size += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            continue
    return size


if __name__ == "__main__":
    main()
