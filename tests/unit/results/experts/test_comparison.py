"""What was measured on both sides, in pairs, and the sentence that says it."""

import pytest
from wideloop.results.experts.comparison import Comparison, Proof, changes, concluded
from wideloop.results.experts.outputs import compared
from wideloop.results.experts.sides import IN_ORDER, PLACED

from tests.unit.operators.steps.measured import measurement


def measured(*pairs, concurrency=32):
    """Output tok/s of both sides, pair by pair."""
    return [
        measurement(tok_s, label=side, repeat=k, purpose="experts", concurrency=concurrency)
        for k, pair in enumerate(pairs)
        for side, tok_s in zip((IN_ORDER, PLACED), pair, strict=True)
    ]


def comparison(*pairs, **changed):
    return Comparison(simulated=False, eplb="static", levels=changes(measured(*pairs)), **changed)


def proof(state, reason="why"):
    return Proof(state=state, reason=reason, before=0.8, predicted=0.99, measured=0.98)


def test_pairs_give_a_gain_and_its_interval():
    (level,) = changes(measured((100, 110), (102, 112), (98, 108)))
    tokens = level.changes["output_tok_s"]
    assert (tokens.before, tokens.after, tokens.pairs) == (100, 110, 3)
    assert tokens.change == pytest.approx(0.1, abs=0.001)
    assert tokens.low < tokens.change < tokens.high
    assert tokens.certain
    assert not level.changes["tpot_ms_p99"].certain


def test_levels_are_compared_with_their_like():
    levels = changes(measured((100, 110)) + measured((10, 9), concurrency=1))
    assert [(x.concurrency, round(x.changes["output_tok_s"].change, 3)) for x in levels] == [(1, -0.1), (32, 0.1)]
    assert levels[0].changes["output_tok_s"].low is None, "one pair has no interval"


def test_a_side_without_its_pair_is_left_out():
    lonely = measurement(500, label=PLACED, repeat=7, purpose="experts")
    (level,) = changes([*measured((100, 110), (100, 111)), lonely])
    assert level.changes["output_tok_s"].pairs == 2
    with pytest.raises(ValueError, match="both sides"):
        changes([lonely])


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (((100, 110), (102, 112), (98, 108)), "worth it"),
        (((100, 90), (102, 92), (98, 88)), "costs more than it gains"),
        (((100, 110), (102, 90), (98, 108)), "no difference"),
        (((100, 110),), "one pair has no interval"),
    ],
)
def test_the_verdict_follows_the_interval(pairs, said):
    assert said in concluded(comparison(*pairs))


def test_an_ignored_placement_outranks_any_gain():
    found = comparison((100, 130), (100, 131), proofs={"decode": proof("ignored", "routing stayed")})
    assert concluded(found) == "Not proven: routing stayed"
    honoured = comparison((100, 130), (100, 131), proofs={"decode": proof("honoured")})
    assert "worth it" in concluded(honoured)


def test_changed_answers_outrank_any_gain():
    outputs = compared(["abc"] * 3, ["abc"] * 3, ["xyz"] * 3)
    assert concluded(comparison((100, 130), (100, 131), outputs=outputs)).startswith("Do not use it")


def test_a_kept_comparison_is_the_same():
    found = comparison((100, 110), (102, 112), proofs={"decode": proof("honoured")})
    assert Comparison.model_validate_json(found.model_dump_json()) == found
