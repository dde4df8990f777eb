from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import ValidationError
from wideloop.manifests.errors import StoreUnavailable
from wideloop.results.records import Asset
from wideloop.results.store import Store
from wideloop.results.store.engine import connect, parse, transaction
from wideloop.results.store.migrate import HEAD, VERSION_TABLE
from wideloop.results.store.tables import metadata

from tests.unit import postgres
from tests.unit.results import factory

_MIGRATIONS = Path(sys.modules["wideloop.results.store.migrate"].__file__ or "").parent / "migrations"
#: Columns that a migration after the first added, by table.
_ADDED_LATER = {
    "wideloop_cycle": {"warnings"},
    "wideloop_trial": {"concurrency", "deployment"},
    "wideloop_measurement": {"output_tok_s_se", "gpu_power_w", "output_tok_per_joule", "telemetry"},
}


def test_a_cycle_comes_back_as_it_was_put(store: Store) -> None:
    owner = factory.seed(store)
    assert store.cycle(owner.cycle_id) == owner
    assert store.cycles() == [owner]
    assert store.stages(owner.cycle_id) == factory.stages(owner)
    expected = [factory.trial(owner, n) for n in range(len(factory.SWEEP))]
    assert store.trials(cycle_id=owner.cycle_id) == expected
    assert store.trials(study=owner.study) == expected
    assert store.trials(study="another") == []
    assert store.recommendation(owner.cycle_id) == factory.recommendation(owner)
    assert store.recordings(owner.cycle_id) == list(factory.recordings(owner))
    assert store.measurements(cycle_id=owner.cycle_id, purpose="repeat") == list(factory.repeats(owner))
    assert store.measurements(cycle_id=owner.cycle_id, trial_number=4) == sorted(
        factory.trial_measurements(owner, 4), key=lambda m: m.started_at
    )


def test_what_is_not_there_is_none_or_empty(store: Store) -> None:
    assert store.cycle("no") is None
    assert store.recommendation("no") is None
    assert store.asset("image", "no") is None
    assert store.cycles() == store.stages("no") == store.trials(cycle_id="no") == store.recordings("no") == []


def test_a_retry_adds_nothing_and_a_newer_record_replaces(store: Store) -> None:
    owner = factory.seed(store)
    before = len(store.measurements(cycle_id=owner.cycle_id))
    factory.seed(store)
    # A measurement without a trial has a NULL in its key: that must not make every retry a new row.
    alone = factory.measurement(owner, purpose="baseline", label="default", trial_number=None)
    store.put(alone)
    store.put(alone.model_copy(update={"output_tok_s": 1.0}))
    measured = store.measurements(cycle_id=owner.cycle_id)
    assert len(measured) == before + 1
    baseline = store.measurements(cycle_id=owner.cycle_id, purpose="baseline")
    assert [(m.output_tok_s, m.trial_number) for m in baseline] == [(1.0, None)]


def test_cycles_come_newest_first_and_no_more_than_asked_for(store: Store) -> None:
    for day in (3, 1, 2):
        store.put(factory.cycle(f"c{day}", started_at=factory.T0 + timedelta(days=day)))
    assert [c.cycle_id for c in store.cycles(limit=2)] == ["c3", "c2"]


def test_times_are_utc_whatever_zone_they_came_in(store: Store) -> None:
    there = datetime(2026, 1, 2, 1, 0, tzinfo=timezone(timedelta(hours=5)))
    store.put(Asset(kind="image", key="k", value="v", verified_at=there))
    found = store.asset("image", "k")
    assert found is not None
    assert found.verified_at == there
    assert found.verified_at.utcoffset() == timedelta(0)


def test_assets_are_the_images_and_weights_the_newest_first(store: Store) -> None:
    owner = factory.cycle()
    image, weights = factory.assets(owner)
    store.identity()  # Kept beside the assets, and none of them.
    store.put(image, weights)
    assert store.assets() == [weights, image]


def test_a_record_of_an_unknown_cycle_is_refused_and_nothing_of_its_batch_is_kept(store: Store) -> None:
    known = factory.cycle("known")
    with pytest.raises(LookupError, match="put the Cycle first"):
        store.put(known, *factory.stages(factory.cycle("unknown")))
    assert store.cycles() == []


def test_numbers_are_finite() -> None:
    with pytest.raises(ValidationError, match="ttft_ms_p99"):
        factory.measurement(factory.cycle(), ttft_ms_p99=float("nan"))
    with pytest.raises(ValidationError, match="constraints"):
        factory.trial(factory.cycle(), 0, constraints={"ttft_p99": float("inf")})


def test_processes_that_open_a_new_database_at_once_all_succeed(url: str) -> None:
    code = "import sys; from wideloop.results.store import Store; print(Store.open(sys.argv[1]).cycles())"
    racers = [
        subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        out, err = racer.communicate(timeout=120)
        assert (racer.returncode, out.strip()) == (0, "[]"), err


def test_processes_that_write_at_once_lose_nothing(url: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import factory; from wideloop.results.store import Store\n"
        "with Store.open(sys.argv[1]) as store:\n"
        "    for n in range(25): store.put(factory.cycle(f'{sys.argv[3]}-{n}'))"
    )
    here = str(Path(__file__).parent)
    with Store.open(url) as store:
        writers = [subprocess.Popen([sys.executable, "-c", code, url, here, str(n)]) for n in range(3)]
        assert [w.wait(120) for w in writers] == [0, 0, 0]
        assert len(store.cycles(limit=1000)) == 75


def test_the_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    Store.open(url).close()
    engine = connect(parse(url))
    with transaction(engine, write=False) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD
    engine.dispose()
    assert ScriptDirectory(str(_MIGRATIONS)).get_current_head() == HEAD


def test_a_database_of_the_first_schema_is_upgraded_and_keeps_its_rows(url: str) -> None:
    _make_first_schema(url)
    with Store.open(url) as store:
        owner = factory.cycle("old")
        (trial,) = store.trials(cycle_id="old")
        (measurement,) = store.measurements(cycle_id="old")
        assert (trial.value, trial.concurrency) == (231.4, None)
        assert (measurement.output_tok_s, measurement.output_tok_s_se) == (3702.4, None)
        renewed = factory.measurement(owner, output_tok_s_se=8.5)
        store.put(factory.trial(owner, 0), renewed)
        assert store.trials(cycle_id="old")[0].concurrency == 32
        assert store.measurements(cycle_id="old") == [renewed]


def _make_first_schema(url: str) -> None:
    """Create the tables of revision 0001 and insert a cycle with a trial and a measurement as that version did."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = connect(parse(url))
    owner = factory.cycle("old")
    with transaction(engine, write=True) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for record in (owner, factory.trial(owner, 0), factory.measurement(owner)):
            table = metadata.tables[f"wideloop_{type(record).__name__.lower()}"]
            added = _ADDED_LATER.get(table.name, set())
            connection.execute(table.insert().values(record.model_dump(exclude=added)))
    engine.dispose()


def test_another_products_tables_in_the_same_database_are_left_alone(url: str) -> None:
    engine = connect(parse(url))
    with transaction(engine, write=True) as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('of airflow')")
    with Store.open(url) as store:
        factory.seed(store)
    with transaction(engine, write=False) as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "of airflow"
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    Store.open(url).close()
    engine = connect(parse(url))
    with transaction(engine, write=True) as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreUnavailable, match="another version of wideloop") as caught:
        Store.open(url)
    assert postgres.PASSWORD not in str(caught.value)


def test_an_sqlite_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreUnavailable, match=r"file/results\.db"):
        Store.open(f"sqlite:///{tmp_path}/file/results.db")
    (tmp_path / "results.db").write_text("this is no database, and long enough to be looked at " * 20)
    with pytest.raises(StoreUnavailable, match=r"results\.db: file is not a database"):
        Store.open(f"sqlite:///{tmp_path}/results.db")


def test_an_sqlite_file_that_may_only_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    Store.open(f"sqlite:///{path}").close()
    with pytest.raises(StoreUnavailable, match="readonly"):
        Store.open(f"sqlite:///file:{path}?mode=ro&uri=true")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("not a url", "use sqlite:////"),
        ("mysql://u:hush@h/db", "mysql is not supported"),
        ("sqlite://", "in memory"),
    ],
)
def test_a_url_of_something_else_is_refused_with_one_that_works(url: str, says: str) -> None:
    with pytest.raises(StoreUnavailable, match=says) as caught:
        Store.open(url)
    assert "postgresql+psycopg://" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/results") as caught:
        Store.open("postgresql://me:hush@127.0.0.1:1/results?password=hush2")
    assert "hush" not in str(caught.value)


def test_a_wrong_password_is_not_repeated(postgres_server: postgres.Server) -> None:
    with pytest.raises(StoreUnavailable, match="authentication failed") as caught:
        Store.open(postgres_server.url("postgres", password="wr0ng-word"))
    assert "wr0ng-word" not in str(caught.value)


def test_a_user_who_may_only_read_is_told_which_rights_are_missing(postgres_server: postgres.Server) -> None:
    with postgres_server.database() as name:
        Store.open(postgres_server.url(name)).close()
        reader = f"reader_{name}"
        postgres_server.execute(f"CREATE ROLE {reader} LOGIN PASSWORD 'r'")
        postgres_server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}", name)
        try:
            with pytest.raises(StoreUnavailable, match="grant INSERT and UPDATE"):
                Store.open(f"postgresql://{reader}:r@127.0.0.1:{postgres_server.port}/{name}")
        finally:
            postgres_server.execute(f"DROP OWNED BY {reader}", name)
            postgres_server.execute(f"DROP ROLE {reader}")


def test_a_server_that_goes_away_is_reported_by_reads_and_writes(postgres_server: postgres.Server) -> None:
    with postgres_server.database() as name:
        store = Store.open(postgres_server.url(name))
        factory.seed(store)
    for act in (store.cycles, lambda: store.put(factory.cycle())):
        with pytest.raises(StoreUnavailable, match=name):
            act()
    store.close()


def test_the_url_of_a_store_has_no_password(store: Store) -> None:
    assert postgres.PASSWORD not in store.url


def test_cycles_of_one_dag_are_not_crowded_out_by_those_of_others(store: Store) -> None:
    store.put(factory.cycle("whole"))
    for n in range(3):
        began = factory.T0 + timedelta(hours=1 + n)
        store.put(factory.cycle(f"image-{n}", dag_id="wideep_image", started_at=began))
    assert [c.cycle_id for c in store.cycles(1)] == ["image-2"]
    assert [c.cycle_id for c in store.cycles(1, dag_id="wideep_cycle")] == ["whole"]
    assert [c.cycle_id for c in store.cycles(2, dag_id="wideep_image")] == ["image-2", "image-1"]


def test_a_store_has_one_name_whoever_asks_and_another_store_another(tmp_path: Path) -> None:
    def name(database: str) -> str:
        with Store.open(f"sqlite:///{tmp_path / database}") as opened:
            return opened.identity()

    with ThreadPoolExecutor(4) as pool:
        asked = set(pool.map(name, ["one.db"] * 8))
    assert len(asked) == 1
    assert name("two.db") not in asked
