"""What tests of several kinds share: one real Airflow, one finished cycle, and cheap tests first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from wideloop.operators.settings import Settings

from tests.airflow_server import ENVIRONMENTS, SMALL, AirflowServer
from tests.installation import Installation, build_wheel
from tests.unit import postgres

# How long an example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

_ORDER = ("unit", "browser", "cluster", "e2e")
#: The default decodes without a fitting CUDA graph, so that there is something to find in three trials. It is
#: several times slower, so answers are shorter.
CYCLE = SMALL | {"osl": 20, "trials": 3, "repeats": 4, "cuda_graph_max_bs": 1, "min_graph_bs": 1}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from tests.streams import Streams

    config.option.loadscopereorder = False  # the order of collection, not the largest first
    return Streams(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests first; what needs Airflow last of its kind, and that Airflow is not there while others run."""
    tests = Path(__file__).parent

    def cost(item: pytest.Item) -> tuple[int, bool]:
        kind = item.path.relative_to(tests).parts[0]
        needs_airflow = "airflow" in getattr(item, "fixturenames", ())
        if needs_airflow and kind == "browser":
            kind = "e2e"
        return _ORDER.index(kind) if kind in _ORDER else -1, needs_airflow

    items.sort(key=cost)


@pytest.fixture(scope="session")
def databases() -> Iterator[dict[str, str]]:
    """Settings of results and study in PostgreSQL; none, so that they are SQLite, where no PostgreSQL is installed."""
    bin_dir = postgres.binaries()
    if bin_dir is None:
        assert not os.environ.get("CI"), "CI must run a cycle on PostgreSQL: apt-get install postgresql"
        yield {}
        return
    with postgres.server(bin_dir) as server, server.database() as results, server.database() as study:
        yield {"WIDELOOP_RESULTS_URL": server.url(results), "WIDELOOP_STUDY_URL": server.url(study)}


@pytest.fixture(scope="session")
def airflow(databases: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """Airflow as the demo starts it, from an installed wheel, in a home of its own; every DAG can be triggered."""
    project = Settings()
    missing = [n for n in ENVIRONMENTS if not (project.environments / n).exists()]
    if missing:
        message = f"environments {missing} are not built below {project.environments}: python3 operators/bootstrap.py"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    # One deployment of each side: on Kubernetes they are compared alternately.
    folder = tmp_path_factory.mktemp("wheel")
    wheel = Installation(folder / "venv", str(build_wheel(folder)))
    server = AirflowServer(tmp_path_factory.mktemp("home"), project, {"WIDELOOP_EXPERT_PAIRS": "1", **databases}, wheel)
    try:
        server.start()
        server.prepare()
        yield server
    finally:
        server.stop()
    assert server.left_behind() == []


@pytest.fixture(scope="session")
def finished_cycle(airflow: AirflowServer) -> str:
    """The run id of a whole ``wideep_cycle`` that ended well."""
    run = airflow.run("wideep_cycle", **CYCLE)
    airflow.wait("wideep_cycle", run, 420)
    return run
