"""How the demo's Airflow opens its database."""

from __future__ import annotations

from typing import Any

#: Seconds that a writer waits for another. SQLite's own 5 s are over soon on a machine whose cores are busy with
#: engines; a triggerer whose first write is refused ends, and with it every wait.
CONNECT_ARGS: dict[str, Any] = {"timeout": 60.0}
