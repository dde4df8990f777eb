"""The properties of a model that serving depends on, read from its ``config.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding

#: Side of the square weight blocks that share one fp32 scale in block-quantised FP8 checkpoints
#: (DeepSeek-V3 technical report, section 3.3.2).
DEFAULT_FP8_BLOCK = 128


class ModelSpec(BaseModel):
    """A mixture-of-experts transformer.

    All parameter counts are numbers of weights; all ``*_bytes`` are bytes before any sharding.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    architecture: str
    num_layers: int = Field(gt=0)
    num_moe_layers: int = Field(gt=0)
    num_experts: int = Field(gt=1, description="routed experts per MoE layer")
    top_k: int = Field(gt=0, description="routed experts per token")
    num_expert_groups: int = Field(1, ge=1)
    hidden_size: int = Field(gt=0)
    moe_intermediate_size: int = Field(gt=0)
    shared_intermediate_size: int = Field(0, ge=0, description="all shared experts of a layer together")
    dense_intermediate_size: int = Field(0, ge=0, description="MLP of the layers without experts")
    attention_params_per_layer: int = Field(gt=0)
    attention_copied_params: int = Field(
        0, ge=0, description="those of attention_params_per_layer that tensor parallelism copies instead of dividing"
    )
    absorbed_params_per_layer: int = Field(
        0, ge=0, description="16-bit copies of MLA's up-projections that engines make to multiply them into the queries"
    )
    rotary_dim: int = Field(0, ge=0, description="width of the table of rotary angles, fp32, one row per position")
    mtp_layers: int = Field(0, ge=0, description="multi-token-prediction layers in the checkpoint")
    num_attention_heads: int = Field(gt=0)
    attention_head_dim: int = Field(gt=0, description="query/key width per head, for attention FLOPs")
    kv_bytes_per_token: int = Field(gt=0, description="all layers, one copy")
    num_kv_heads: int = Field(1, ge=1, description="how many ways tensor parallelism can split the KV cache; 1 for MLA")
    vocab_size: int = Field(gt=0)
    max_context: int = Field(gt=0)
    weight_bytes: float = Field(gt=0, description="bytes per weight of the linear layers")
    scale_block: int = Field(0, ge=0, description="0, or side of the weight block sharing an fp32 scale")

    @property
    def expert_params(self) -> int:
        """Weights of one routed expert in one layer: gate, up and down projection."""
        return 3 * self.hidden_size * self.moe_intermediate_size

    @property
    def expert_bytes(self) -> int:
        """Bytes of one routed expert in one layer, block scales included."""
        return self._stored_bytes(self.expert_params)

    @property
    def slot_bytes(self) -> int:
        """Bytes that one more physical expert slot per GPU costs on that GPU (all MoE layers)."""
        return self.num_moe_layers * self.expert_bytes

    @property
    def total_bytes(self) -> int:
        """Approximate size of the checkpoint on disk (embeddings and head in 16 bits)."""
        experts = self.num_moe_layers * self.num_experts * self.expert_bytes
        shared = self.num_moe_layers * self._stored_bytes(3 * self.hidden_size * self.shared_intermediate_size)
        dense_mlp = self._stored_bytes(3 * self.hidden_size * self.dense_intermediate_size)
        attention = self.num_layers * self._stored_bytes(self.attention_params_per_layer)
        dense_layers = self.num_layers - self.num_moe_layers
        return experts + shared + attention + dense_layers * dense_mlp + 4 * self.vocab_size * self.hidden_size

    def stored_bytes(self, params: int) -> int:
        """Bytes of ``params`` linear-layer weights as the checkpoint stores them."""
        return self._stored_bytes(params)

    def _stored_bytes(self, params: int) -> int:
        scales = 4 * params // self.scale_block**2 if self.scale_block else 0
        return int(params * self.weight_bytes) + scales

    @classmethod
    def from_config(cls, config: dict[str, Any], name: str) -> ModelSpec:
        """Read a Hugging Face ``config.json``.

        Raises:
            Refused: the config describes no mixture of experts, or lacks a needed key.
        """
        return _Config(config, name).spec()

    @classmethod
    def from_path(cls, path: Path, name: str | None = None) -> ModelSpec:
        """Read ``path`` (a config.json, or a directory that holds one)."""
        file = path / "config.json" if path.is_dir() else path
        try:
            config = json.loads(file.read_text())
            if not isinstance(config, dict):
                raise ValueError("not a JSON object")
        except (OSError, ValueError) as error:
            raise Refused(
                [
                    Finding(
                        field="model",
                        value=str(path),
                        rule=f"has no readable config.json ({type(error).__name__})",
                        suggestion="Give a profile's name or a directory with the model's config.json",
                    )
                ]
            ) from error
        return cls.from_config(config, name or config.get("_name_or_path") or file.parent.name)


class _Config:
    """One config.json under the several key names that model families use."""

    def __init__(self, config: dict[str, Any], name: str) -> None:
        self._config = config.get("text_config", config)
        self._name = name

    def spec(self) -> ModelSpec:
        layers = self._need("num_hidden_layers")
        hidden = self._need("hidden_size")
        moe_intermediate = self._need("moe_intermediate_size", "intermediate_size")
        attention = self._attention(hidden)
        weight_bytes, block = self._quantisation()
        moe_layers = self._moe_layers(layers)
        return ModelSpec(
            name=self._name,
            architecture=(self._config.get("architectures") or ["unknown"])[0],
            num_layers=layers,
            num_moe_layers=moe_layers,
            num_experts=self._need("n_routed_experts", "num_experts", "num_local_experts"),
            top_k=self._need("num_experts_per_tok"),
            num_expert_groups=self._config.get("n_group") or 1,
            hidden_size=hidden,
            moe_intermediate_size=moe_intermediate,
            shared_intermediate_size=self._shared(moe_intermediate),
            dense_intermediate_size=self._config.get("intermediate_size", 0) if moe_layers < layers else 0,
            num_attention_heads=self._need("num_attention_heads"),
            kv_bytes_per_token=attention.pop("kv_bytes_per_layer") * layers,
            mtp_layers=self._config.get("num_nextn_predict_layers") or 0,
            vocab_size=self._need("vocab_size"),
            max_context=self._config.get("max_position_embeddings", 4096),
            weight_bytes=weight_bytes,
            scale_block=block,
            **attention,
        )

    def _need(self, *keys: str) -> int:
        for key in keys:
            value = self._config.get(key)
            if value is not None:
                return int(value)
        raise Refused(
            [
                Finding(
                    field="model",
                    value=self._name,
                    rule=f"its config.json has none of {', '.join(keys)}: it is not a known mixture-of-experts format",
                    suggestion="Use an MoE model such as DeepSeek-R1, Qwen3-MoE or Mixtral",
                )
            ]
        )

    def _moe_layers(self, layers: int) -> int:
        dense_first = self._config.get("first_k_dense_replace", 0)
        listed = len(self._config.get("mlp_only_layers") or [])
        step = self._config.get("decoder_sparse_step") or self._config.get("moe_layer_freq") or 1
        return int((layers - dense_first - listed) // step)

    def _shared(self, moe_intermediate: int) -> int:
        explicit = self._config.get("shared_expert_intermediate_size")
        return int(explicit or (self._config.get("n_shared_experts") or 0) * moe_intermediate)

    def _attention(self, hidden: int) -> dict[str, int]:
        """The fields about attention, and the KV bytes per token and layer in 16 bits."""
        heads = self._need("num_attention_heads")
        rank = self._config.get("kv_lora_rank")
        if rank:  # multi-head latent attention: one latent vector and one rope key per token
            rope = self._need("qk_rope_head_dim")
            nope = self._need("qk_nope_head_dim")
            value = self._need("v_head_dim")
            q_rank = self._config.get("q_lora_rank")
            query = heads * (nope + rope)
            q_params = hidden * q_rank + q_rank * query if q_rank else hidden * query
            up = rank * heads * (nope + value)
            return {
                "attention_params_per_layer": q_params + hidden * (rank + rope) + up + heads * value * hidden,
                "attention_copied_params": hidden * (rank + rope + (q_rank or 0)),
                "absorbed_params_per_layer": up,
                "attention_head_dim": nope + rope,
                "rotary_dim": rope,
                "num_kv_heads": 1,
                "kv_bytes_per_layer": 2 * (rank + rope),
            }
        head_dim = int(self._config.get("head_dim") or hidden // heads)
        kv_heads = int(self._config.get("num_key_value_heads") or heads)
        return {
            "attention_params_per_layer": 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim,
            "attention_head_dim": head_dim,
            "rotary_dim": int(head_dim * (self._config.get("partial_rotary_factor") or 1)),
            "num_kv_heads": kv_heads,
            "kv_bytes_per_layer": 2 * kv_heads * head_dim * 2,
        }

    def _quantisation(self) -> tuple[float, int]:
        quant = self._config.get("quantization_config") or {}
        method = quant.get("quant_method", "")
        if "fp8" in method or quant.get("fmt") == "e4m3":
            block = (quant.get("weight_block_size") or [DEFAULT_FP8_BLOCK])[0]
            return 1.0, int(block)
        bits = quant.get("bits") or (4 if "fp4" in method else None)
        if bits:
            return float(bits) / 8, 0
        return 2.0, 0
