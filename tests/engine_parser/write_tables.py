"""Write the flags of every known version's parser to ``manifests/engines/sglang_options.json``.

    python -m tests.engine_parser.write_tables

One row for each flag with its versions: flags, how many values it takes (``nargs``), their type, choices, versions.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wideloop.manifests.engines.sglang_options import TABLE
from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import Settings

VERSIONS = ("0.5.17", "0.5.21", "0.5.23")
#: SGLang's version in the environment whose Dynamo is asked for its own flags.
DYNAMOS = "0.5.21"
DYNAMO = "dynamo"


def table_of(version: str) -> list[list[Any]]:
    """The flags that the parser of ``version`` has, or :data:`DYNAMO`'s own."""
    environments = Settings().environments
    python = environments / ("simulated" if version == DYNAMO else "airflow") / "bin" / "python"
    (folder,) = (environments / f"sglang-parser-{DYNAMOS if version == DYNAMO else version}" / "lib").glob("python*")
    options = ["--table", *(["--dynamo"] if version == DYNAMO else [])]
    for packages in (str(folder / "site-packages"), sysconfig.get_path("purelib")):
        options += ["--append", packages]
    command = [str(python), "-m", "tests.engine_parser", *options]
    rows: list[list[Any]] = json.loads(subprocess.run(command, cwd=PROJECT, check=True, capture_output=True).stdout)
    return rows


def merged(tables: Mapping[str, Iterable[list[Any]]]) -> list[list[Any]]:
    """All rows of ``tables`` by version, those that are equal once, with their versions."""
    versions: dict[str, list[str]] = {}
    for version, rows in tables.items():
        for row in rows:
            versions.setdefault(json.dumps(row), []).append(version)
    return sorted([*json.loads(row), of] for row, of in versions.items())


def main() -> None:
    rows = merged({version: table_of(version) for version in (*VERSIONS, DYNAMO)})
    lines = ",\n".join(json.dumps(row) for row in rows)
    Path(TABLE).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
