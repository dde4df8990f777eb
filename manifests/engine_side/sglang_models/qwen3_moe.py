"""Qwen3-MoE whose routing follows the experts' placement, and whose random weights have hot experts."""

from __future__ import annotations

from typing import Any

from sglang.srt.models import qwen3_moe
from wideloop.manifests.engine_side.placement_hook import pass_placement
from wideloop.manifests.engine_side.random_model import KEY
from wideloop.manifests.engine_side.random_weights import fill


class Qwen3MoeForCausalLM(qwen3_moe.Qwen3MoeForCausalLM):  # type: ignore[misc]
    """SGLang's class of this name, repaired."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._random = getattr(config, KEY, None)
        pass_placement(self, qwen3_moe.Qwen3MoeSparseMoeBlock)

    def post_load_weights(self) -> None:
        """Give dummy weights their hot experts; SGLang calls this after it has drawn the weights."""
        if self._random is not None:
            fill(self.named_parameters(), **self._random)
        if not hasattr(self, "routed_experts_weights_of_layer"):
            # SGLang 0.5.17 sets it when it reads a checkpoint; without it the first online rebalance ends the server.
            self.routed_experts_weights_of_layer = {
                layer_id: layer.mlp.get_moe_weights()
                for layer_id, layer in enumerate(self.model.layers)
                if isinstance(layer.mlp, qwen3_moe.Qwen3MoeSparseMoeBlock)
            }


EntryClass = Qwen3MoeForCausalLM
