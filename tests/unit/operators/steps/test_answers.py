"""The answers of best and default are compared, and another model's answers are never recommended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.errors import TargetError
from wideloop.operators.request import Request
from wideloop.operators.steps.answers import ask, compare_answers
from wideloop.operators.steps.recommend import recommend
from wideloop.operators.steps.run import artefacts, open_store
from wideloop.results.experts.prompts import PROMPTS

from tests.unit.operators.steps.measured import CYCLE, PARAMS, repeated
from tests.unit.operators.steps.test_recommend import best as best  # The fixture.

SPEC = Request.from_params({"engine": "sglang", "hardware": "h200-2", "model": "Qwen3-30B-A3B-FP8"}).spec("d")


class Frontend:
    """A target whose frontend repeats the prompt, or is gone."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = gone
        self.bodies: list[dict[str, Any]] = []

    def call(self, _name: str, _component: str, _path: str, *, body: dict[str, Any], timeout_s: float) -> str:
        del timeout_s
        if self.gone:
            raise TargetError("connection refused")
        self.bodies.append(body)
        return json.dumps({"choices": [{"message": {"content": body["messages"][0]["content"]}}]})


def keep(trial: int, repeat: int, answers: list[str]) -> None:
    document = {"trial": trial, "repeat": repeat, "answers": answers}
    artefacts().put_json(document, "cycles", CYCLE.cycle_id, "answers", f"trial-{trial}-repeat-{repeat}.json")


def answers_of(*, wrong: int = 0, late: int = 0) -> list[str]:
    """A hundred answers, of which some differ from their first word on, and some from their last."""
    texts = [f"answer {n} to a question that is always the same" for n in range(100)]
    return ["!" + t if n < wrong else t[:-4] + "?" if n < wrong + late else t for n, t in enumerate(texts)]


def test_there_are_a_hundred_different_prompts_and_all_are_asked_greedily_in_order() -> None:
    assert len(set(PROMPTS)) == 100
    frontend: Any = Frontend()
    assert ask(frontend, SPEC) == list(PROMPTS)
    assert {body["temperature"] for body in frontend.bodies} == {0}


def test_a_simulated_engine_is_asked_a_few_only() -> None:
    frontend: Any = Frontend()
    assert len(ask(frontend, Request.from_params({}).spec("d"))) < 10


def test_a_frontend_that_is_gone_is_an_error() -> None:
    frontend: Any = Frontend(gone=True)
    with pytest.raises(TargetError):
        ask(frontend, SPEC)


@pytest.mark.parametrize(
    ("again", "after", "state"),
    [
        ({}, {}, "same"),
        ({"late": 30}, {"late": 40}, "same"),
        ({}, {"late": 40}, "drifted"),
        ({"late": 30}, {"wrong": 90}, "different"),
        ({"wrong": 90}, {"wrong": 95}, "not comparable"),
    ],
)
def test_the_threshold_is_what_two_runs_without_a_change_show(
    cycle: Path, again: dict[str, int], after: dict[str, int], state: str
) -> None:
    keep(0, 1, answers_of())
    keep(0, 2, answers_of(**again))
    keep(5, 1, answers_of(**after))
    outputs = compare_answers(CYCLE, 5, 0)
    assert outputs is not None and outputs.state == state


def test_one_run_of_the_default_is_no_threshold(cycle: Path) -> None:
    keep(0, 1, answers_of())
    keep(5, 1, answers_of(wrong=90))
    assert compare_answers(CYCLE, 5, 0) is None


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "adopt"), (90, "keep default")])
def test_other_answers_veto_what_would_be_adopted(best: int, wrong: int, verdict: str) -> None:
    for repeat, (default, tuned) in enumerate(((800, 1002), (802, 1004), (801, 1003))):
        repeated(0, repeat, default)
        repeated(best, repeat, tuned)
    keep(0, 0, answers_of())
    keep(0, 1, answers_of())
    keep(best, 0, answers_of(wrong=wrong))
    conclusion = recommend(PARAMS, CYCLE)
    assert conclusion.verdict == verdict and "answer" in conclusion.reason
    with open_store() as store:
        assert store.recommendation(CYCLE.cycle_id) == conclusion
