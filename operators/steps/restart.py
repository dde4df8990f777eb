"""Start a deployment once more that died for a reason outside of its configuration.

A cycle has nothing to compare with where its baseline is not measured, and on a large cluster some GPU, link or node
fails about every day. A trial needs no second start, as the study asks for its configuration again.
"""

from __future__ import annotations

import logging

from wideloop.manifests.diagnosis import Diagnosis
from wideloop.operators.steps.deployment import ailment, delete
from wideloop.operators.steps.evidence import keep_deployment
from wideloop.operators.steps.run import Run, artefacts
from wideloop.operators.targets import open_target

log = logging.getLogger(__name__)


def restart_once(target_name: str, name: str, run: Run, client: str | None = None) -> bool:
    """Start a deployment of ``run`` once more if it has failed and was not started again before; whether it was.

    What its configuration cannot do it could not do at a second start either. A deployment of another owner, such as
    one that the form names, is left alone.

    Args:
        client: the load generator that was sent to it, if one was.
    """
    target = open_target(target_name)
    diagnosis = ailment(target_name, name, client)
    if diagnosis is None or not is_worth_another_start(diagnosis):
        return False
    owner = next((owned.owner for owned in target.list_owned() if owned.name == name), None)
    if owner is None or (owner.dag_id, owner.run_id) != (run.dag_id, run.run_id) or _was_restarted(run, name):
        return False
    # Noted first: whatever happens from here on, it is not started a third time.
    artefacts().put_json(diagnosis.model_dump(mode="json"), *_folder(run), f"{name}.json")
    log.warning("%s failed and is started once more: %s", name, diagnosis)
    spec = target.spec(name)
    keep_deployment(target_name, name, run, start="first")
    delete(target_name, name)
    target.apply(spec, owner)
    return True


def is_worth_another_start(diagnosis: Diagnosis) -> bool:
    """Whether a failure may be gone at the next start: it lies neither in the configuration nor in settings."""
    return diagnosis.kind in ("crashed", "node_lost", "timed_out") and not diagnosis.lies_in_configuration


def _was_restarted(run: Run, name: str) -> bool:
    return any(uri.endswith(f"/{name}.json") for uri in artefacts().list(*_folder(run)))


def _folder(run: Run) -> tuple[str, ...]:
    return ("cycles", run.cycle_id, "restarts")
