"""How the tests are spread over processes (``pytest -n 2``): a stream is a list of tests that one process runs.

What needs the same Airflow or the same control plane is one stream, so each is started once. Every other file is a
stream of its own. Streams are handed out in the order of collection, so the cheap tests come first, and the two long
streams, in which most of the time is waiting, run side by side at the end.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

#: By the beginning of a test's path.
_SHARED = {"tests/cluster/": "cluster", "tests/e2e/": "airflow", "tests/browser/test_airflow_page.py": "airflow"}


def stream(nodeid: str) -> str:
    """The stream of a test; the path of its file where that shares nothing."""
    path = nodeid.split("::", 1)[0]
    return next((name for start, name in _SHARED.items() if path.startswith(start)), path)


class Streams(LoadScopeScheduling):
    """Gives each process one stream after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return stream(nodeid)
