"""Hand a placement to the routers of a model whose SGLang class does not.

SGLang 0.5.17 to 0.5.21 pass the placement to a router only under DeepEP (Qwen3-MoE) or with online EPLB as well
(DeepSeek-V3): with ``--init-expert-location`` alone the weights move and the tokens do not
(sgl-project/sglang pull requests 36861, 39580 and 32962).
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.eplb.expert_location_dispatch import ExpertLocationDispatchInfo


def pass_placement(model: torch.nn.Module, block_class: type[torch.nn.Module]) -> None:
    """Give every router of ``model`` the placement at each call that lacks it, which is what those changes do.

    Args:
        block_class: the class of a layer's mixture of experts; it has ``topk``, its router, and ``layer_id``.
    """
    for block in model.modules():
        if isinstance(block, block_class):
            block.topk.register_forward_pre_hook(_Dispatch(block.layer_id), with_kwargs=True)


class _Dispatch:
    """Hook that passes the placement to a layer's router when the caller has not."""

    def __init__(self, layer_id: Any) -> None:
        self._layer_id = layer_id

    def __call__(
        self, _router: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if kwargs.get("expert_location_dispatch_info") is None:
            kwargs["expert_location_dispatch_info"] = ExpertLocationDispatchInfo.init_new(layer_id=self._layer_id)
        return args, kwargs
