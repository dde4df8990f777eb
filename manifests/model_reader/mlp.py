"""Widths of a model's MLPs: routed experts, what every MoE layer has beside them, and the layers without experts."""

from __future__ import annotations

from dataclasses import dataclass

from wideloop.manifests.model_reader.families import Family
from wideloop.manifests.model_reader.keys import MOST_EXPERTS, Keys

#: Widths of all shared experts of a layer together; of one of them, to be multiplied by their number.
_TOGETHER = ("shared_expert_intermediate_size", "share_expert_dim", "share_expert_dims", "shared_intermediate_size")
_EACH = ("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size")
_NUMBERS = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts", "n_shared_expert")
_ROUTED = (
    "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", "num_moe_experts", "n_experts",
    "num_routed_experts",
)  # fmt: skip
_CHOSEN = (
    "num_experts_per_tok", "moe_topk", "moe_k", "moe_top_k", "num_experts_per_token", "top_k_experts",
    "num_selected_experts", "experts_per_token", "num_experts_per_topk", "moe_router_topk", "n_activated_experts",
)  # fmt: skip
#: Activations without a gate: two matrices instead of three.
_UNGATED = {"relu2", "relu", "gelu_new_ungated"}


@dataclass(frozen=True)
class Mlps:
    """The MLPs of a model.

    Attributes:
        experts, top_k: routed experts of a layer, and of a token.
        expert_hidden: width of the vectors that experts take and give; a latent space may be narrower than the model.
        expert_width, shared_width, dense_width: inner widths; shared: all shared experts together.
        matrices: of each MLP.
        latent: weights of the projections into and out of the experts' space.
    """

    experts: int
    top_k: int
    expert_hidden: int
    expert_width: int
    shared_width: int
    dense_width: int
    matrices: int
    latent: int


def read_mlps(keys: Keys, family: Family) -> Mlps:
    """The widths of all MLPs."""
    hidden = keys.need("hidden_size", "n_embd", "d_model")
    experts = _positive(keys, *_ROUTED)
    if experts < 2:
        keys.refuse("its config.json has fewer than two routed experts: it is no mixture of experts")
    top_k = _positive(keys, *_CHOSEN)
    if top_k > experts:
        keys.refuse(f"its config.json has {top_k} experts per token of {experts} routed experts")
    width = _positive(keys, "moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size", "ffn_hidden_size")
    latent = keys.count("moe_latent_size", "routed_expert_hidden_size")
    return Mlps(
        experts=experts,
        top_k=top_k,
        expert_hidden=latent or hidden,
        expert_width=width,
        shared_width=_shared(keys, family, width),
        dense_width=keys.count(
            "dense_intermediate_size", "intermediate_size_mlp", "prefix_dense_intermediate_size", "intermediate_size",
            "ffn_hidden_size",
        ),
        matrices=2 if keys.text("mlp_hidden_act") in _UNGATED else family.expert_matrices,
        latent=2 * hidden * latent,
    )  # fmt: skip


def _shared(keys: Keys, family: Family, width: int) -> int:
    if keys.flag("residual_moe"):  # Grok-2: a dense MLP beside the experts
        return keys.need("intermediate_size")
    if family.shared_key:
        return keys.need(family.shared_key)
    together = keys.count(*_TOGETHER)
    if together:
        return together
    return keys.count(*_NUMBERS) * keys.count(*_EACH, default=width)


def _positive(keys: Keys, *names: str) -> int:
    """A positive number. ERNIE-VL has one for each modality: experts that only images use are not understood."""
    return keys.need(*names, most=MOST_EXPERTS * 10)
