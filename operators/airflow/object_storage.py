"""Airflow's object storage, for the artefact store: its URLs may name Airflow's connections.

The entry point ``wideloop.object_storage`` leads here, so that the steps of a cycle do not import Airflow.
"""

from __future__ import annotations

from airflow.sdk import ObjectStoragePath


def open_root(url: str) -> ObjectStoragePath:
    """The folder at ``url``, e.g. ``s3://aws_default@bucket/wideloop``."""
    return ObjectStoragePath(url)
