"""The readers of load generators' result files, by the name of the load generator."""

from __future__ import annotations

from wideloop.manifests.registry import Registry
from wideloop.results.clients.base import ResultReader

RESULT_READERS: Registry[ResultReader] = Registry(
    "client", "wideloop.result_readers", {"aiperf": "wideloop.results.clients.aiperf:AiperfReader"}
)


def get_result_reader(client: str) -> ResultReader:
    """The reader of the files that load generator ``client`` leaves.

    Raises:
        Refused: there is no reader of that name.
    """
    return RESULT_READERS.load(client)()
