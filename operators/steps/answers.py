"""Ask a deployment the fixed prompts, and compare what the best and the default configuration of a cycle answer.

Expert placement must not change what a model says. The threshold comes from two deployments of the same configuration:
batches and kernels alone let answers part.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.request import is_simulated
from wideloop.operators.steps.run import Run, artefacts
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Target
from wideloop.results.experts.outputs import Outputs, compared
from wideloop.results.experts.prompts import PROMPTS

log = logging.getLogger(__name__)

_TOKENS = 24
_TIMEOUT_S = 120.0
#: Prompts that were not asked by then are left out.
_BUDGET_S = 180.0
#: Prompts that a simulated engine is asked: its answers say nothing, the path is walked.
_SIMULATED_PROMPTS = 5
#: Repeats of a configuration that are asked: two runs without a change tell what may differ.
_ASKED_REPEATS = 2


def ask(target: Target, spec: DeploymentSpec) -> list[str]:
    """The greedy answers to the first of :data:`PROMPTS`, one after the other, as many as the time allows.

    Raises:
        TargetError: the frontend does not answer.
        ValueError: it answers with something that is no completion.
    """
    prompts = PROMPTS[:_SIMULATED_PROMPTS] if is_simulated(spec.engine) else PROMPTS
    deadline = time.monotonic() + _BUDGET_S
    answers: list[str] = []
    for prompt in prompts:
        if time.monotonic() >= deadline:
            break
        answers.append(_answer(target, spec, prompt))
    return answers


def keep_answers(target_name: str, deployment: str, run: Run, trial: int, repeat: int) -> None:
    """Ask one of the first repeats of a trial's configuration; whatever goes wrong is logged and loses nothing else."""
    if len(_kept(run, trial)) >= _ASKED_REPEATS:
        return
    target = open_target(target_name)
    try:
        answers = ask(target, target.spec(deployment))
    except (TargetError, ValueError) as error:
        log.warning("the answers of %s cannot be compared: %s", deployment, error)
        return
    document = {"deployment": deployment, "trial": trial, "repeat": repeat, "max_tokens": _TOKENS, "answers": answers}
    artefacts().put_json(document, "cycles", run.cycle_id, "answers", f"{_prefix(trial)}{repeat}.json")


def compare_answers(run: Run, best: int, default: int) -> Outputs | None:
    """Whether the best answers as the default does; None where they were not asked often enough."""
    of_default, of_best = _kept(run, default), _kept(run, best)
    if len(of_default) < _ASKED_REPEATS or not of_best:
        return None
    sides = [of_default[0], of_default[1], of_best[0]]
    common = min(map(len, sides))
    if not common:
        return None
    before, again, after = (side[:common] for side in sides)
    return compared(before, again, after)


def _kept(run: Run, trial: int) -> list[list[str]]:
    uris = [u for u in artefacts().list("cycles", run.cycle_id, "answers") if f"/{_prefix(trial)}" in u]
    return [artefacts().read_json(uri)["answers"] for uri in uris]


def _prefix(trial: int) -> str:
    return f"trial-{trial}-repeat-"


def rounds(target: Target, spec: DeploymentSpec, count: int) -> Sequence[Sequence[str]]:
    """The answers of ``count`` rounds, each cut to the prompts that all of them answered."""
    answers_by_round = [ask(target, spec) for _ in range(count)]
    common = min(map(len, answers_by_round))
    return [answers[:common] for answers in answers_by_round]


def _answer(target: Target, spec: DeploymentSpec, prompt: str) -> str:
    body = {
        "model": spec.model.name,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": _TOKENS,
        "temperature": 0,
        "seed": 1,
    }
    text = target.call(spec.name, "frontend", get_engine(spec.engine).generate_path, body=body, timeout_s=_TIMEOUT_S)
    choices = json.loads(text).get("choices") or [{}]
    message = choices[0].get("message") or {}
    return str(message.get("content") or message.get("reasoning_content") or "")
