from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from wideloop.manifests.engine_side.random_weights import fill  # noqa: E402

HIDDEN, EXPERTS, VOCAB = 512, 64, 2000


@pytest.fixture(scope="module")
def model() -> dict[str, torch.Tensor]:
    named = {
        "model.embed_tokens.weight": torch.zeros(VOCAB, HIDDEN),
        "lm_head.weight": torch.zeros(VOCAB, HIDDEN),
        "model.layers.0.input_layernorm.weight": torch.zeros(HIDDEN),
        "model.layers.0.mlp.gate.weight": torch.zeros(EXPERTS, HIDDEN, dtype=torch.bfloat16),
        "model.layers.1.mlp.gate.weight": torch.zeros(EXPERTS, HIDDEN, dtype=torch.bfloat16),
        "model.layers.0.mlp.experts.w13_weight": torch.zeros(4, 8, HIDDEN),
    }
    fill(named.items(), sigma=0.8, block=0.2)
    return named


def load(model: dict[str, torch.Tensor], layer: int) -> torch.Tensor:
    """Tokens per expert, of one token each of the vocabulary."""
    x = model["model.embed_tokens.weight"]
    x = x / x.pow(2).mean(1, keepdim=True).sqrt()
    logits = x @ model[f"model.layers.{layer}.mlp.gate.weight"].float().T
    return torch.bincount(logits.topk(8, dim=1).indices.flatten(), minlength=EXPERTS).float()


def test_a_few_experts_get_several_times_the_mean(model: dict[str, torch.Tensor]):
    for layer in (0, 1):
        ratio = load(model, layer).max() / load(model, layer).mean()
        assert 3 < ratio < 9


def test_layers_have_hot_experts_of_their_own(model: dict[str, torch.Tensor]):
    both = torch.stack([load(model, 0), load(model, 1)])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.5


def test_experts_in_order_are_uneven_over_two_ranks(model: dict[str, torch.Tensor]):
    halves = load(model, 0).reshape(2, -1).sum(1)
    assert float(halves.mean() / halves.max()) < 0.97


def test_norms_pass_everything_and_experts_stay_as_the_engine_drew_them(model: dict[str, torch.Tensor]):
    assert model["model.layers.0.input_layernorm.weight"].eq(1).all()
    assert model["model.layers.0.mlp.experts.w13_weight"].eq(0).all()


def test_deepseeks_correction_does_not_even_the_load_out():
    named = {
        "model.embed_tokens.weight": torch.zeros(10, HIDDEN),
        "model.layers.3.mlp.gate.e_score_correction_bias": torch.ones(EXPERTS),
    }
    fill(named.items(), sigma=0.8, block=0.2)
    assert named["model.layers.3.mlp.gate.e_score_correction_bias"].eq(0).all()
