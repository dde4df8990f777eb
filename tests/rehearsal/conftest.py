"""The fixtures of the cluster tests."""

from tests.cluster.conftest import (  # noqa: F401 - fixtures
    add_nodes,
    agent,
    airflow,
    cluster,
    ended,
    home,
    hub,
    hurried_tasks,
    operator,
    shell,
)
