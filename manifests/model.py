"""The properties of a model that serving depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from wideloop.manifests.frozen import Frozen

#: Relative difference between the counted and the stored size of a checkpoint that is left as it is.
_AGREES = 0.03
#: A count that is off by more than this factor is of other files than those that were measured: it is not scaled.
_SAME_MODEL = 4.0

#: Fields that 0.1.0 did not have. They follow from the model's files, which name and path identify, and are left out of
#: fingerprints, so that measurements made before keep theirs.
LATER_FIELDS = frozenset(
    {
        "expert_hidden_size", "expert_matrices", "latent_params_per_layer", "dense_mlps", "window_kv_bytes_per_token",
        "window_tokens", "state_bytes_per_request", "latent_dim", "tied_embeddings", "scale_bytes",
        "attention_weight_bytes", "shared_weight_bytes", "dense_weight_bytes", "head_weight_bytes", "mtp_bytes",
        "other_bytes", "checkpoint_bytes",
    }
)  # fmt: skip


class ModelSpec(Frozen):
    """A mixture-of-experts transformer.

    All parameter counts are numbers of weights; all ``*_bytes`` are bytes before any sharding. Fields that average over
    layers (``attention_*``, ``absorbed_*``) give the model's total times 1 / ``num_layers``: layers may differ.
    """

    name: str
    architecture: str
    num_layers: int = Field(gt=0)
    num_moe_layers: int = Field(gt=0)
    num_experts: int = Field(gt=1, description="routed experts per MoE layer")
    top_k: int = Field(gt=0, description="routed experts per token")
    num_expert_groups: int = Field(1, ge=1)
    hidden_size: int = Field(gt=0)
    expert_hidden_size: int = Field(0, ge=0, description="width that experts take and give; 0: hidden_size")
    moe_intermediate_size: int = Field(gt=0)
    expert_matrices: int = Field(3, ge=2, le=3, description="per MLP: 3 with a gate, 2 without")
    shared_intermediate_size: int = Field(0, ge=0, description="all shared experts of a layer together")
    latent_params_per_layer: int = Field(0, ge=0, description="projections into and out of a narrower expert space")
    dense_intermediate_size: int = Field(0, ge=0, description="MLP of the layers without experts")
    dense_mlps: int | None = Field(None, ge=0, description="number of such MLPs; None: one per layer without experts")
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
    kv_bytes_per_token: int = Field(gt=0, description="all layers whose cache grows with the context, one copy")
    window_kv_bytes_per_token: int = Field(0, ge=0, description="layers that cache the last window_tokens only")
    window_tokens: int = Field(0, ge=0, description="tokens to which those layers attend; 0: there are none")
    state_bytes_per_request: int = Field(0, ge=0, description="linear attention, Mamba, convolutions")
    latent_dim: int = Field(0, ge=0, description="width of MLA's cached vector")
    num_kv_heads: int = Field(1, ge=1, description="how many ways tensor parallelism can split the KV cache; 1 for MLA")
    vocab_size: int = Field(gt=0)
    tied_embeddings: bool = Field(False, description="the head is the embedding")
    max_context: int = Field(gt=0)
    weight_bytes: float = Field(gt=0, description="bytes per weight of the routed experts, scales aside")
    scale_bytes: float = Field(0.0, ge=0, description="bytes of scales per weight of the routed experts")
    scale_block: int = Field(0, ge=0, description="0, or side of the weight block sharing an fp32 scale")
    attention_weight_bytes: float | None = Field(None, gt=0, description="with scales; None: as the experts'")
    shared_weight_bytes: float | None = Field(None, gt=0, description="with scales; None: as the experts'")
    dense_weight_bytes: float | None = Field(None, gt=0, description="with scales; None: as the experts'")
    head_weight_bytes: float = Field(2.0, gt=0)
    mtp_bytes: int = Field(0, ge=0, description="multi-token-prediction layers, their embeddings included")
    other_bytes: int = Field(0, ge=0, description="vision tower")
    checkpoint_bytes: int | None = Field(None, gt=0, description="size of the weight files, where it differs")

    @property
    def expert_params(self) -> int:
        """Weights of one routed expert in one layer."""
        return self.expert_matrices * (self.expert_hidden_size or self.hidden_size) * self.moe_intermediate_size

    @property
    def expert_bytes(self) -> int:
        """Bytes of one routed expert in one layer, scales included."""
        return self.stored_bytes(self.expert_params)

    @property
    def slot_bytes(self) -> int:
        """Bytes that one more physical expert slot per GPU costs on that GPU (all MoE layers)."""
        return self.num_moe_layers * self.expert_bytes

    @property
    def shared_params(self) -> int:
        """Weights of all layers' shared experts and latent projections."""
        shared = self.expert_matrices * self.hidden_size * self.shared_intermediate_size
        return self.num_moe_layers * (shared + self.latent_params_per_layer)

    @property
    def dense_params(self) -> int:
        """Weights of all MLPs without experts."""
        number = self.num_layers - self.num_moe_layers if self.dense_mlps is None else self.dense_mlps
        return number * self.expert_matrices * self.hidden_size * self.dense_intermediate_size

    @property
    def embedding_bytes(self) -> int:
        """Input embedding in 16 bits, and the head where it is a matrix of its own."""
        per_entry = 2.0 if self.tied_embeddings else 2.0 + self.head_weight_bytes
        return int(per_entry * self.vocab_size * self.hidden_size)

    @property
    def router_bytes(self) -> int:
        """Routers of all MoE layers."""
        return 2 * self.num_moe_layers * self.hidden_size * self.num_experts

    @property
    def counted_bytes(self) -> int:
        """Bytes of all weights, counted matrix by matrix."""
        attention = self.attention_bytes(self.num_layers * self.attention_params_per_layer)
        experts = self.num_moe_layers * self.num_experts * self.expert_bytes
        beside = self.shared_bytes(self.shared_params) + self.dense_bytes(self.dense_params)
        rest = self.embedding_bytes + self.router_bytes + self.mtp_bytes + self.other_bytes
        return attention + experts + beside + rest

    @property
    def total_bytes(self) -> int:
        """Size of the checkpoint on disk."""
        return self.checkpoint_bytes or self.counted_bytes

    def stored_bytes(self, params: int) -> int:
        """Bytes of ``params`` weights of routed experts."""
        return int(params * (self.weight_bytes + self.scale_bytes))

    def attention_bytes(self, params: float) -> int:
        """Bytes of ``params`` weights of attention and what takes its place."""
        return int(params * (self.attention_weight_bytes or self.weight_bytes + self.scale_bytes))

    def shared_bytes(self, params: float) -> int:
        """Bytes of ``params`` weights of shared experts."""
        return int(params * (self.shared_weight_bytes or self.weight_bytes + self.scale_bytes))

    def dense_bytes(self, params: float) -> int:
        """Bytes of ``params`` weights of MLPs without experts."""
        return int(params * (self.dense_weight_bytes or self.weight_bytes + self.scale_bytes))

    def scaled(self, checkpoint_bytes: int, counted: int) -> ModelSpec:
        """The model with a checkpoint of that size, which wins over the ``counted`` one.

        A checkpoint without the multi-token-prediction layers that its config names loses them; any other difference
        above 3 % is spread over all weights.
        """
        if abs(checkpoint_bytes / counted - 1) <= _AGREES:
            return self.changed(checkpoint_bytes=checkpoint_bytes)
        if abs(checkpoint_bytes / (counted - self.mtp_bytes) - 1) <= _AGREES:
            return self.changed(checkpoint_bytes=checkpoint_bytes, mtp_bytes=0, mtp_layers=0)
        factor = checkpoint_bytes / counted
        if not 1 / _SAME_MODEL <= factor <= _SAME_MODEL:
            return self.changed(checkpoint_bytes=checkpoint_bytes)
        scaled = {
            field: value * factor
            for field in ("weight_bytes", "scale_bytes", "attention_weight_bytes", "shared_weight_bytes",
                          "dense_weight_bytes")
            if (value := getattr(self, field)) is not None
        }  # fmt: skip
        return self.changed(checkpoint_bytes=checkpoint_bytes, **scaled)

    @classmethod
    def from_config(cls, config: dict[str, Any], name: str) -> ModelSpec:
        """Read a Hugging Face ``config.json``.

        Example:
            >>> from wideloop.manifests import profiles
            >>> profiles.model("DeepSeek-R1").num_moe_layers
            58

        Raises:
            Refused: the config describes no mixture of experts, lacks a needed key, or has one that is not understood.
        """
        from wideloop.manifests.model_reader import read_config

        return read_config(config, name)

    @classmethod
    def from_path(cls, path: Path, name: str | None = None) -> ModelSpec:
        """Read ``path`` (a config.json, or a directory that holds one).

        Raises:
            Refused: as ``from_config``, or it cannot be read.
        """
        from wideloop.manifests.model_folder import read_folder

        return read_folder(path, name)
