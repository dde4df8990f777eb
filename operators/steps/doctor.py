"""What an installation lacks before a first run: databases, artefact store, connections, the account on a cluster.

What only Airflow knows is looked at by ``wideloop.operators.airflow.doctor``, where Airflow is installed.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from wideloop.manifests.errors import StoreUnavailable, WideloopError
from wideloop.manifests.findings import Finding
from wideloop.operators.settings import Settings, settings
from wideloop.operators.steps.run import artefacts
from wideloop.operators.targets import configured_targets, open_target
from wideloop.operators.targets.connections import from_connection
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.results.store import Store
from wideloop.results.store.engine import EXAMPLES, connect, parse, shown, transaction
from wideloop.results.store.migrate import HEAD

#: Checks that import Airflow. The layers forbid an import from here, so they are found by name.
_AIRFLOW_CHECKS = "wideloop.operators.airflow.doctor:checks"


def checks() -> Iterator[CheckResult]:
    """Every check, one after the other; a later one does not depend on an earlier one."""
    here = settings()
    yield _check("results database", "WIDELOOP_RESULTS_URL", partial(_results, here))
    yield _check("study database", "WIDELOOP_STUDY_URL", partial(_study, here))
    yield _check("artefact store", "WIDELOOP_ARTEFACTS_URL", partial(_artefacts, here))
    for kind, setting, conn_id in (
        ("kubernetes", "WIDELOOP_KUBERNETES_CONN_ID", here.kubernetes_conn_id),
        ("huggingface", "WIDELOOP_HF_CONN_ID", here.hf_conn_id),
    ):
        if conn_id is not None:
            yield _check(f"connection {conn_id}", setting, partial(_connection, kind, setting, conn_id))
    for name in configured_targets():
        findings = _account(name)
        yield CheckResult(f"target {name}", "can be used", tuple(findings))
    if (here.kubeconfig or here.kubernetes_conn_id) and not here.telemetry.dcgm:
        unknown = "no exporter is named (WIDELOOP_TELEMETRY__DCGM): levels will have no power and no tokens per joule"
        yield CheckResult("GPU telemetry", unknown, made=False)
    if importlib.util.find_spec("airflow") is None:
        yield CheckResult("Airflow", "is not installed here: `wideloop cycle` runs without it", made=False)
        return
    yield from pkgutil.resolve_name(_AIRFLOW_CHECKS)()


def _check(name: str, setting: str, look: Callable[[], str]) -> CheckResult:
    """The result of a look that says what is there, or raises."""
    try:
        return CheckResult(name, look())
    except WideloopError as error:
        # Both databases are opened by the same code, which calls each the results database.
        rule, suggestion = str(error).replace("results database", name, 1), f"Correct {setting}"
    except Exception as error:  # An object store's client has errors of its own.
        rule, suggestion = f"{type(error).__name__}: {error}", f"Correct {setting}, or the rights of this account"
    return CheckResult(name, "cannot be used", (Finding(field=name, value=setting, rule=rule, suggestion=suggestion),))


def _results(here: Settings) -> str:
    with Store.open(here.results_url) as store:
        return f"{store.url}, schema {HEAD}, installation {store.identity()}"


def _study(here: Settings) -> str:
    url = parse(here.study_url)
    if url == parse(here.results_url):
        raise StoreUnavailable(f"{shown(url)} is the results database; Optuna's needs one of its own: {EXAMPLES}")
    engine = connect(url)
    try:
        with transaction(engine, write=False):
            return shown(url)
    finally:
        engine.dispose()


def _artefacts(here: Settings) -> str:
    """Written, and read back: some stores take what they then do not give."""
    content = b"written by wideloop doctor"
    artefacts().put_bytes(content, "doctor", "written.txt")
    if artefacts().read_bytes("doctor", "written.txt") != content:
        raise StoreUnavailable(f"{here.artefacts_url} does not give back what is written to it")
    return f"{here.artefacts_url} can be written and read"


def _connection(kind: str, setting: str, conn_id: str) -> str:
    from_connection(kind, setting, conn_id)
    return "is there"


def _account(name: str) -> list[Any]:
    try:
        return open_target(name).account_findings()
    except WideloopError as error:
        return [Finding(field="target", value=name, rule=str(error), suggestion="See docs/kubernetes.md")]
