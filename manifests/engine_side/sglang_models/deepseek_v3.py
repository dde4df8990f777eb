"""DeepSeek-V3 whose routing follows the experts' placement, and whose random weights have hot experts."""

from __future__ import annotations

from typing import Any

from sglang.srt.models import deepseek_v2
from wideloop.manifests.engine_side.placement_hook import pass_placement
from wideloop.manifests.engine_side.random_model import KEY
from wideloop.manifests.engine_side.random_weights import fill


class DeepseekV3ForCausalLM(deepseek_v2.DeepseekV3ForCausalLM):  # type: ignore[misc]
    """SGLang's class of this name, repaired."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._random = getattr(config, KEY, None)
        pass_placement(self, deepseek_v2.DeepseekV2MoE)

    def post_load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Give dummy weights their hot experts, then derive what SGLang derives from the weights."""
        if self._random is not None:
            fill(self.named_parameters(), **self._random)
        super().post_load_weights(*args, **kwargs)


EntryClass = DeepseekV3ForCausalLM
