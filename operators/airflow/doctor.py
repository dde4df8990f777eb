"""What an Airflow lacks to run this project: DAG bundle, DAGs, pool, triggerer, stores that all its workers share.

It reads Airflow's database, so it runs where a scheduler or an API server does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from wideloop.manifests.findings import Finding, Severity
from wideloop.operators.airflow.dag_bundle import CLASSPATH, dag_ids
from wideloop.operators.settings import settings
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.results.airflow_names import CYCLE, GPU_POOL, JANITOR, TRIAL

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: What a cycle starts or relies on without being asked.
_UNPAUSED = (TRIAL, JANITOR)
_BUNDLE = f'[{{"name": "wideloop", "classpath": "{CLASSPATH}", "kwargs": {{}}}}]'
_BEAT = timedelta(seconds=90)
#: Executors whose tasks run on the scheduler's own host.
_ON_ONE_HOST = ("LocalExecutor", "SequentialExecutor")


def checks() -> Iterator[CheckResult]:
    """Every check of Airflow; the database first, without which there are no others."""
    from airflow.utils.session import create_session
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    yield _bundle()
    yield _shared_stores()
    try:
        with create_session() as session:
            session.execute(text("SELECT 1"))
            yield _dags(session)
            yield _pool(session)
            yield _triggerer(session)
    except SQLAlchemyError as error:
        rule = f"cannot be read: {str(error).splitlines()[0]}"
        yield _wrong("Airflow's database", "sql_alchemy_conn", rule, "Run `airflow db migrate`, or look at it")


def _bundle() -> CheckResult:
    """A bundle of the DAG files of this installation, or a folder with copies of them."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    bundles = list(DagBundlesManager().get_all_dag_bundles())  # type: ignore[no-untyped-call]
    ours = [b.name for b in bundles if (b.path / f"{CYCLE}.py").is_file()]
    if ours:
        return CheckResult("DAG bundle", ", ".join(ours))
    names = ", ".join(b.name for b in bundles) or "none"
    rule = f"none of the bundles ({names}) has the DAG files"
    fix = f"Set AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST='{_BUNDLE}'"
    return _wrong("DAG bundle", "dag_bundle_config_list", rule, fix)


def _shared_stores() -> CheckResult:
    """With workers on other hosts, what is a file here is another one there."""
    from airflow.configuration import conf

    executor = conf.get("core", "executor")
    here = settings()
    urls = {"RESULTS": here.results_url, "STUDY": here.study_url, "ARTEFACTS": here.artefacts_url}
    files = [f"WIDELOOP_{name}_URL" for name, url in urls.items() if url.startswith(("sqlite:", "file:"))]
    if not files or executor.rpartition(".")[2] in _ON_ONE_HOST:
        return CheckResult("executor", executor)
    rule = f"runs tasks on hosts of their own, and {', '.join(files)} are files of this one"
    fix = "Use PostgreSQL and an object store, or a volume that all workers mount"
    return _wrong("executor", executor, rule, fix, "warning" if files == ["WIDELOOP_ARTEFACTS_URL"] else "error")


def _dags(session: Session) -> CheckResult:
    """The DAGs as Airflow's database knows them."""
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    dags = dag_ids()
    rows = session.execute(select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(dags))).all()
    paused = {dag_id: is_paused for dag_id, is_paused in rows}
    missing = [dag_id for dag_id in dags if dag_id not in paused]
    if missing:
        rule = f"{', '.join(missing)} are not known: no DAG processor has read them yet, or it could not"
        return _wrong(
            "DAGs", "dag", rule, "Look at `airflow dags list-import-errors`, and whether a DAG processor runs"
        )
    resting = [dag_id for dag_id in _UNPAUSED if paused[dag_id]]
    if resting:
        rule = f"{', '.join(resting)} are paused: a cycle would wait for its trials, or leave orphans"
        return _wrong("DAGs", "dag", rule, " && ".join(f"airflow dags unpause {d}" for d in resting), "warning")
    return CheckResult("DAGs", f"all {len(dags)} are known")


def _pool(session: Session) -> CheckResult:
    from airflow.models.pool import Pool

    make = f'airflow pools set {GPU_POOL} 1 "deployments measured at once" --include-deferred'
    pool = Pool.get_pool(GPU_POOL, session=session)
    if pool is None:
        return _wrong("pool", GPU_POOL, "does not exist: runs would stay queued", make)
    if not pool.include_deferred:
        rule = "does not count deferred tasks, so deployments would be measured side by side"
        return _wrong("pool", GPU_POOL, rule, make)
    return CheckResult("pool", f"{GPU_POOL}, {pool.slots} slots, deferred tasks included")


def _triggerer(session: Session) -> CheckResult:
    from airflow.jobs.job import Job
    from sqlalchemy import func, select

    beat = session.scalar(select(func.max(Job.latest_heartbeat)).where(Job.job_type == "TriggererJob"))
    if beat is None or beat < datetime.now(UTC) - _BEAT:
        last = "has never run" if beat is None else f"was last heard of at {beat:%Y-%m-%d %H:%M} UTC"
        return _wrong(
            "triggerer", "triggerer", f"{last}: waits that take minutes would never end", "Run `airflow triggerer`"
        )
    return CheckResult("triggerer", "is alive")


def _wrong(name: str, value: str, rule: str, fix: str, severity: Severity = "error") -> CheckResult:
    return CheckResult(name, "", (Finding(field=name, value=value, rule=rule, suggestion=fix, severity=severity),))
