"""Whether two deployments answer alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.results.experts.outputs import compared

ANSWERS = ["the sky is blue because", "def fib(n): return n", "391", "a prince hesitates", "Die Experten"]


def test_the_same_answers_are_the_same():
    found = compared(ANSWERS, ANSWERS, ANSWERS)
    assert (found.state, found.identical, found.agreement, found.prompts) == ("same", 1.0, 1.0, 5)


def test_rounding_lets_long_answers_part_late():
    drifted = [a[:-4] + "xxxx" if len(a) > 10 else a for a in ANSWERS]
    found = compared(ANSWERS, ANSWERS, drifted)
    assert found.state == "drifted"
    assert "rounding" in found.reason


def test_wrong_experts_differ_from_the_first_word():
    found = compared(ANSWERS, ANSWERS, ["!" + a for a in ANSWERS])
    assert found.state == "different"
    assert "changed what the model says" in found.reason


def test_an_engine_that_answers_at_random_proves_nothing():
    found = compared(ANSWERS, ["?" + a for a in ANSWERS], ANSWERS)
    assert found.state == "not comparable", "even where the two sides happen to agree"
    assert "asked twice" in found.reason


@pytest.mark.parametrize("sides", [([], [], []), (["a"], ["a"], []), (["a"], [], ["a"])])
def test_answers_to_different_prompts_are_not_compared(sides):
    with pytest.raises(ValueError, match="same prompts"):
        compared(*sides)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.data())
def test_shares_are_shares(before, data):
    after = data.draw(st.lists(st.text(max_size=8), min_size=len(before), max_size=len(before)))
    found = compared(before, before, after)
    assert 0 <= found.identical <= 1 and 0 <= found.agreement <= 1
    assert found.agreement >= found.identical
