"""Durations of single steps of real servers, read from a stored results database.

    python -m wideloop.tuning.calibration.steps docs/gpu/store.tar.xz docs/gpu/tuned docs/gpu/graphs

writes ``steps.csv`` beside each folder's ``loads.csv``, in the same columns, up to three rows per server:

* ``prefill``: median prompt tokens/s of whole chunks that follow another chunk, from SGLang's log;
* ``step``: median ms of decode steps at the load's full concurrency, from those lines of SGLang's log (one for 40
  steps) between which no prompt was prefilled;
* ``trial``: output tokens/s of the whole load, from the client's totals.

The last one differs from the throughput that the product reports, which is a plateau's: a closed loop with requests of
equal length runs in waves (all prompts, then all decode steps), and three waves have no plateau. A window that is not
cut between two waves holds too many prompts or too many steps.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import statistics
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

_COLUMNS = (
    "call", "run", "model", "tag", "n", "conc", "isl", "osl", "out_tok_s", "in_tok_s", "tpot_ms_p50",
)  # fmt: skip
_LOG = re.compile(r"/logs/(?P<run>[^/]+)-aggregated-0\.log\.gz$")
_CLIENT = re.compile(r"/benchmarks/(?P<run>[^/]+)/phases/level0/profile_export_aiperf\.json$")
_PREFILL = re.compile(r"Prefill batch, .*#new-token: (\d+),.*input throughput \(token/s\): ([\d.]+)")
_DECODE = re.compile(r"Decode batch, #running-req: (\d+),.*gen throughput \(token/s\): ([\d.]+)")
Row = dict[str, object]


def read_store(file: Path) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Log lines and the whole load's output tokens/s, each by run.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: a client's export lacks its throughput.
    """
    logs: dict[str, list[str]] = {}
    totals: dict[str, float] = {}
    with tarfile.open(file) as store:
        for member in store:
            log, client = _LOG.search(member.name), _CLIENT.search(member.name)
            content = store.extractfile(member) if log or client else None
            if content is None:
                continue
            if log:
                logs[log["run"]] = gzip.decompress(content.read()).decode().splitlines()
            elif client:
                totals[client["run"]] = float(json.loads(content.read())["output_token_throughput"]["avg"])
    return logs, totals


def chunks(log: Iterable[str], tokens: int) -> list[float]:
    """Prompt tokens/s of every chunk of ``tokens`` that follows a chunk.

    A chunk after a decode step is left out: SGLang counts the time since the last log line of the same kind.
    """
    speeds, follows = [], False
    for line in log:
        if match := _PREFILL.search(line):
            if follows and int(match[1]) == tokens:
                speeds.append(float(match[2]))
            follows = True
        elif _DECODE.search(line):
            follows = False
    return speeds


def decode_steps(log: Iterable[str], batch: int) -> list[float]:
    """Mean ms of the steps before each log line about decoding ``batch`` sequences, without a prompt in between."""
    durations, follows = [], False
    for line in log:
        if match := _DECODE.search(line):
            if follows and int(match[1]) == batch:
                durations.append(batch / float(match[2]) * 1000)
            follows = True
        elif _PREFILL.search(line):
            follows = False
    return durations


def steps(folder: Path, logs: dict[str, list[str]], totals: dict[str, float]) -> list[Row]:
    """The rows of ``folder / steps.csv``, for each load in ``loads.csv`` whose log is in the store."""
    with (folder / "servers.csv").open(newline="") as file:
        chunk = {row["run"]: int(row["chunked_prefill"]) for row in csv.DictReader(file)}
    with (folder / "loads.csv").open(newline="") as file:
        loads = [row for row in csv.DictReader(file) if row["run"] in logs]
    rows: list[Row] = []
    for load in loads:
        run = load["run"]
        same: Row = {name: load[name] for name in ("call", "run", "model", "conc", "isl", "osl")}
        if rates := chunks(logs[run], chunk[run]):
            rows.append({**same, "tag": "prefill", "n": len(rates), "in_tok_s": round(statistics.median(rates))})
        if times := decode_steps(logs[run], int(load["conc"])):
            rows.append({**same, "tag": "step", "n": len(times), "tpot_ms_p50": round(statistics.median(times), 2)})
        if run in totals:
            rows.append({**same, "tag": "trial", "n": load["n"], "out_tok_s": round(totals[run], 1)})
    return rows


def main(store: str, *folders: str) -> None:
    """Write ``steps.csv`` into every folder."""
    logs, totals = read_store(Path(store))
    for folder in map(Path, folders):
        write(folder / "steps.csv", steps(folder, logs, totals))


def write(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", newline="") as sink:
        writer = csv.DictWriter(sink, _COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
