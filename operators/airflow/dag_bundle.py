"""The DAG files of an installed wideloop as a DAG bundle, so that users need not find or copy them.

AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST='[
  {"name": "wideloop", "classpath": "wideloop.operators.airflow.dag_bundle.WideloopDagBundle", "kwargs": {}}]'
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wideloop
from airflow.dag_processing.bundles.local import LocalDagBundle

#: The folder of the installed package; every process of Airflow finds its own.
DAGS = Path(wideloop.__file__ or "").parent / "dags"


class WideloopDagBundle(LocalDagBundle):
    """The DAG files of the installed package."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(path=str(DAGS), **kwargs)


def dag_ids() -> list[str]:
    """The DAGs of the package; each file defines the one that it is called after."""
    return sorted(file.stem for file in DAGS.glob("wideep_*.py"))


#: Its class path, as Airflow's setting and its database hold it.
CLASSPATH = f"{WideloopDagBundle.__module__}.{WideloopDagBundle.__qualname__}"
