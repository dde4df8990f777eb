"""Adds up a model: its layers, their matrices and forms, as a ``ModelSpec``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wideloop.manifests.model_reader.attention import Mixer, attention
from wideloop.manifests.model_reader.families import family_of
from wideloop.manifests.model_reader.forms import BITS_16, Form
from wideloop.manifests.model_reader.keys import Keys
from wideloop.manifests.model_reader.layers import Layer, mtp_blocks, read_layers
from wideloop.manifests.model_reader.mlp import Mlps, read_mlps
from wideloop.manifests.model_reader.quantisation import Forms, read_forms
from wideloop.manifests.model_reader.state_space import linear_attention, mamba, short_convolution
from wideloop.manifests.model_reader.unknown_keys import refuse_unread
from wideloop.manifests.model_reader.vision import vision_params

if TYPE_CHECKING:
    from wideloop.manifests.model import ModelSpec

_TEXT = ("text_config", "llm_config", "language_config")
#: Families whose structure is not in their config's keys.
_REFUSED = {
    "jetmoe": "its attention has experts too",
    "switch_transformers": "it is an encoder and a decoder",
    "nllb_moe": "it is an encoder and a decoder",
    "ernie4_5_vl_moe": "images have experts of their own",
    "longcat_flash_ngram": "it has tables of n-grams",
}
_MLP_NAMES = ("gate_proj", "up_proj", "down_proj")
_MTP = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")
_CONTEXT = (
    "max_seq_len",
    "max_position_embeddings",
    "n_positions",
    "model_max_length",
    "max_sequence_length",
    "seq_length",
)
_DEFAULT_CONTEXT = 4096


def read_config(config: Mapping[str, Any], name: str, *, quantisation: Mapping[str, Any] | None = None,
                checkpoint_bytes: int | None = None) -> ModelSpec:  # fmt: skip
    """The model that ``config`` describes.

    Args:
        config: its config.json.
        quantisation: its hf_quant_config.json.
        checkpoint_bytes: the size of its weight files, where it is known: it wins over the count.

    Raises:
        Refused: no mixture of experts, a value that cannot be, or a key that is not understood.
    """
    inner = config
    while nested := next((inner[k] for k in _TEXT if isinstance(inner.get(k), dict)), None):
        inner = nested
    # DBRX
    for part in ("ffn_config", "attn_config"):
        if isinstance(inner.get(part), dict):
            inner = {**{k: v for k, v in inner[part].items() if k != "model_type"}, **inner}
    family = inner.get("model_type")
    if isinstance(family, str) and family in _REFUSED:
        Keys(inner, name).refuse(f"its config.json has model_type = {family!r}: {_REFUSED[family]}")
    if isinstance(inner.get("thinker_config"), dict):
        Keys(inner, name).refuse("its config.json is of an omni-modal model, whose parts are several models")
    return _Reader(config, inner, name, quantisation, checkpoint_bytes).spec()


@dataclass(frozen=True)
class _Sum:
    """Weights of one kind over all layers, and their bytes."""

    params: int = 0
    bytes: float = 0.0

    def __add__(self, other: _Sum) -> _Sum:
        return _Sum(self.params + other.params, self.bytes + other.bytes)

    @property
    def per_weight(self) -> float:
        return self.bytes / self.params if self.params else 2.0


class _Reader:
    def __init__(self, config: Mapping[str, Any], inner: Mapping[str, Any], name: str,
                 quantisation: Mapping[str, Any] | None, checkpoint_bytes: int | None) -> None:  # fmt: skip
        architectures = [c.get("architectures") for c in (config, inner)]
        self.architecture = next(
            (a[0] for a in architectures if isinstance(a, list) and a and isinstance(a[0], str)), "unknown"
        )
        types = [c.get("model_type") for c in (inner, config)]
        self.family = family_of([t for t in types if isinstance(t, str)], self.architecture)
        given = {k: v for k, v in inner.items() if v is not None}
        self.keys = Keys({**self.family.defaults, **given}, name)
        self.whole = Keys(config, name)
        self.checkpoint_bytes = checkpoint_bytes
        self.dtype = next((c.get(k) for c in (inner, config) for k in ("torch_dtype", "dtype") if c.get(k)), "")
        self.forms: Forms = read_forms(config, inner, self.keys, quantisation)
        self.quantised = any(c.get("quantization_config") for c in (config, inner)) or bool(quantisation)

    def spec(self) -> ModelSpec:
        from wideloop.manifests.model import ModelSpec

        keys, family = self.keys, self.family
        layers, mlps = read_layers(keys), read_mlps(keys, family)
        hidden, vocab = keys.need("hidden_size", "n_embd", "d_model"), keys.need("vocab_size")
        moe = [i for i, layer in enumerate(layers) if layer.mlp == "moe"]
        if not moe:
            keys.refuse("none of its layers has experts")
        mixers = [self._mixer(layer, i) for i, layer in enumerate(layers)]
        attending = [m for m, layer in zip(mixers, layers, strict=True) if layer.mixer in ("full", "window")]
        if not attending:
            keys.refuse("none of its layers attends: there is no KV cache")
        first = next((m for m, layer in zip(mixers, layers, strict=True) if layer.mixer == "full"), attending[0])
        expert = self.forms(f"layers.{moe[-1]}.{family.experts}.0.up_proj")
        sums = self._sums(layers, mixers, mlps)
        blocks = family.blocks
        window = sum(m.kv_bytes for m, layer in zip(mixers, layers, strict=True) if layer.mixer == "window")
        cached = sum(m.kv_bytes for m in mixers) - window
        experts = _Sum(
            params := mlps.matrices * mlps.expert_hidden * mlps.expert_width, self._experts(moe, params, mlps)
        )
        mtp = self._mtp_bytes(layers, mlps, mixers, hidden, vocab)
        head = self.forms("lm_head")
        spec = ModelSpec(
            name=keys.name,
            architecture=self.architecture,
            num_layers=len(layers),
            num_moe_layers=len(moe),
            num_experts=mlps.experts,
            top_k=mlps.top_k,
            num_expert_groups=max(keys.count("n_group", "num_expert_group"), 1),
            hidden_size=hidden,
            expert_hidden_size=mlps.expert_hidden,
            moe_intermediate_size=mlps.expert_width,
            expert_matrices=mlps.matrices,
            shared_intermediate_size=mlps.shared_width,
            latent_params_per_layer=mlps.latent,
            dense_intermediate_size=mlps.dense_width if any(x.mlp == "dense" for x in layers) or blocks > 1 else 0,
            dense_mlps=sum(x.mlp == "dense" for x in layers) + (blocks * len(layers) if blocks > 1 else 0),
            attention_params_per_layer=-(-blocks * sum(sum(m.linear.values()) for m in mixers) // len(layers)),
            attention_copied_params=blocks * sum(m.copied for m in mixers) // len(layers),
            absorbed_params_per_layer=blocks * sum(m.absorbed for m in mixers) // len(layers),
            rotary_dim=first.rotary_dim,
            mtp_layers=self._mtp_layers(),
            num_attention_heads=first.heads,
            attention_head_dim=first.head_dim,
            kv_bytes_per_token=max(blocks * (cached or window), 1),
            window_kv_bytes_per_token=blocks * window if cached else 0,
            window_tokens=self._window() if window else 0,
            state_bytes_per_request=sum(m.state_bytes for m in mixers),
            latent_dim=keys.count("kv_lora_rank") + first.rotary_dim if first.absorbed else 0,
            num_kv_heads=max(first.kv_heads, 1),
            vocab_size=vocab,
            tied_embeddings=self._tied(),
            max_context=self._context(),
            weight_bytes=round(experts.per_weight - expert.scale_bytes, 9),
            scale_bytes=expert.scale_bytes,
            scale_block=expert.block,
            attention_weight_bytes=sums["attention"].per_weight,
            shared_weight_bytes=sums["shared"].per_weight,
            dense_weight_bytes=sums["dense"].per_weight,
            head_weight_bytes=head.bytes,
            mtp_bytes=int(mtp),
            other_bytes=2 * vision_params(self.whole),
        )
        return self._as_stored(spec)

    def _as_stored(self, spec: ModelSpec) -> ModelSpec:
        """With the checkpoint's size: as it is known, else as counted; fp32 weights are twice what engines load."""
        counted = spec.counted_bytes
        if self.dtype in ("float32", "torch.float32") and not self.quantised:
            counted *= 2
        if self.checkpoint_bytes is None:
            refuse_unread(self.keys, self.architecture)
            return spec.changed(checkpoint_bytes=counted) if counted != spec.counted_bytes else spec
        return spec.scaled(self.checkpoint_bytes, counted)

    def _mixer(self, layer: Layer, index: int) -> Mixer:
        match layer.mixer:
            case "full" | "window":
                return attention(self.keys, self.family, index, windowed=layer.mixer == "window")
            case "linear":
                return linear_attention(self.keys)
            case "mamba":
                return mamba(self.keys)
            case "conv":
                return short_convolution(self.keys)
        return Mixer({})

    def _sums(self, layers: list[Layer], mixers: list[Mixer], mlps: Mlps) -> dict[str, _Sum]:
        """Attention, shared and dense MLPs of all layers."""
        sums = {"attention": _Sum(), "shared": _Sum(), "dense": _Sum()}
        hidden = self.keys.need("hidden_size", "n_embd", "d_model")
        for i, (layer, mixer) in enumerate(zip(layers, mixers, strict=True)):
            for name, params in mixer.linear.items():
                sums["attention"] += self._stored(f"layers.{i}.{name}", params)
            if layer.mlp == "moe":
                sums["shared"] += self._mlp(
                    f"layers.{i}.{self.family.shared}", hidden * mlps.shared_width, mlps.matrices
                )
                sums["shared"] += self._stored(f"layers.{i}.mlp.fc_latent_proj", mlps.latent)
            if layer.mlp == "dense" or self.family.blocks > 1:
                sums["dense"] += self._mlp(f"layers.{i}.mlp", hidden * mlps.dense_width, mlps.matrices)
        return sums

    def _experts(self, layers: list[int], params: int, mlps: Mlps) -> float:
        """Bytes of one expert, averaged over the layers: some checkpoints leave a few in a wider form."""
        names = [f"{self.family.experts}.0.{matrix}" for matrix in _MLP_NAMES[-mlps.matrices :]]
        per_layer = [sum(self.forms(f"layers.{i}.{name}").bytes for name in names) / len(names) for i in layers]
        return params * sum(per_layer) / len(per_layer)

    def _mlp(self, name: str, params: int, matrices: int) -> _Sum:
        total = _Sum()
        for matrix in _MLP_NAMES[-matrices:]:
            total += self._stored(f"{name}.{matrix}", params)
        return total

    def _stored(self, name: str, params: int) -> _Sum:
        # Convolutions and what decides on a state stay in 16 bits.
        form: Form = BITS_16 if name.endswith(("conv1d", "conv", "A_log")) else self.forms(name)
        return _Sum(params, params * form.bytes)

    def _mtp_layers(self) -> int:
        return 0 if self.family.mtp == "none" else self.keys.count(*_MTP, most=100)

    def _mtp_bytes(self, layers: list[Layer], mlps: Mlps, mixers: list[Mixer], hidden: int, vocab: int) -> float:
        """Bytes of the multi-token-prediction layers: a layer, what joins embedding and state, often embeddings."""
        number = self._mtp_layers()
        if not number:
            return 0.0
        index = len(layers)
        blocks = mtp_blocks(self.keys) or [Layer("full", "moe" if self.family.mtp == "moe" else "dense")]
        full = next((m for m, x in zip(mixers, layers, strict=True) if x.mixer == "full"), mixers[0])
        total = self._stored(f"layers.{index}.eh_proj", 2 * hidden**2)
        for block in blocks:
            if block.mixer == "full":
                for name, params in full.linear.items():
                    total += self._stored(f"layers.{index}.{name}", params)
            if block.mlp == "moe":
                params = mlps.experts * mlps.expert_hidden * mlps.expert_width
                total += self._mlp(f"layers.{index}.{self.family.experts}.0", params, mlps.matrices)
                total += self._mlp(f"layers.{index}.{self.family.shared}", hidden * mlps.shared_width, mlps.matrices)
            elif block.mlp == "dense":
                total += self._mlp(f"layers.{index}.mlp", hidden * mlps.dense_width, mlps.matrices)
        embeddings = 4 * vocab * hidden if self.family.mtp_embeddings else 0
        return number * (total.bytes + embeddings)

    def _tied(self) -> bool:
        return self.keys.raw("tie_word_embeddings") is True or (
            self.keys.raw("tie_word_embeddings") is None and self.whole.raw("tie_word_embeddings") is True
        )

    def _window(self) -> int:
        return self.keys.count(self.family.window_key, "sliding_window", "sliding_window_size", "attention_chunk_size")

    def _context(self) -> int:
        return max(self.keys.count(*_CONTEXT, default=_DEFAULT_CONTEXT), 1)
