"""Qwen3-MoE whose routing follows the experts' placement, and whose random weights have hot experts.

SGLang 0.5.17 to 0.5.21 hand a placement to the router of this model only under DeepEP: with
``--init-expert-location`` the weights move and the tokens do not (sgl-project/sglang pull requests 36861 and 39580).
The hook below gives the router the placement at every call that lacks it, which is what those changes do.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.eplb.expert_location_dispatch import ExpertLocationDispatchInfo
from sglang.srt.models import qwen3_moe
from wideloop.manifests.engine_side.random_model import KEY
from wideloop.manifests.engine_side.random_weights import fill


class Qwen3MoeForCausalLM(qwen3_moe.Qwen3MoeForCausalLM):  # type: ignore[misc]
    """SGLang's class of this name, repaired."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._random = getattr(config, KEY, None)
        for block in self.modules():
            if isinstance(block, qwen3_moe.Qwen3MoeSparseMoeBlock):
                block.topk.register_forward_pre_hook(_Dispatch(block.layer_id), with_kwargs=True)

    def post_load_weights(self) -> None:
        """Give dummy weights their hot experts; SGLang calls this after it has drawn the weights."""
        if self._random is not None:
            fill(self.named_parameters(), **self._random)


class _Dispatch:
    """Hook that passes the placement to a layer's router when the caller has not."""

    def __init__(self, layer_id: int) -> None:
        self._layer_id = layer_id

    def __call__(
        self, _router: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if kwargs.get("expert_location_dispatch_info") is None:
            kwargs["expert_location_dispatch_info"] = ExpertLocationDispatchInfo.init_new(layer_id=self._layer_id)
        return args, kwargs


EntryClass = Qwen3MoeForCausalLM
