"""What each layer of a model is: its mixer of tokens and its MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from wideloop.manifests.model_reader.keys import MOST_LAYERS, Keys

#: "window" attends to a limited number of tokens, "linear" keeps a state of fixed size instead of a KV cache.
MixerKind = Literal["full", "window", "linear", "mamba", "conv", "none"]
MlpKind = Literal["moe", "dense", "none"]


class Layer(NamedTuple):
    """One layer."""

    mixer: MixerKind
    mlp: MlpKind


#: Values of ``layer_types`` and ``layers_block_type``.
_MIXERS: Mapping[str, MixerKind] = MappingProxyType(
    {
        "full_attention": "full", "attention": "full", "sparse": "full", "minimax_m3_sparse": "full",
        "deepseek_sparse_attention": "full", "compressed_sparse_attention": "full",
        "heavily_compressed_attention": "full",
        "sliding_attention": "window", "chunked_attention": "window", "local_attention": "window",
        "linear_attention": "linear", "kda": "linear", "mamba": "mamba", "conv": "conv", "short_conv": "conv",
    }
)  # fmt: skip
#: Letters of Nemotron-H's pattern and words of its list, of which each names a layer with one block only.
_BLOCKS: Mapping[str, Layer] = MappingProxyType(
    {
        "M": Layer("mamba", "none"), "E": Layer("none", "moe"), "*": Layer("full", "none"), "-": Layer("none", "dense"),
        "mamba": Layer("mamba", "none"), "moe": Layer("none", "moe"), "attention": Layer("full", "none"),
        "linear_attention": Layer("mamba", "none"), "full_attention": Layer("full", "none"),
        "mlp": Layer("none", "dense"),
    }
)  # fmt: skip
_MLPS: Mapping[str, MlpKind] = MappingProxyType({"sparse": "moe", "moe": "moe", "dense": "dense"})


def read_layers(keys: Keys) -> list[Layer]:
    """All layers, without those of multi-token prediction."""
    blocks = _blocks(keys, "hybrid_override_pattern", "layers_block_type")
    if blocks:
        stated = keys.count("num_hidden_layers", default=len(blocks))
        if stated != len(blocks):
            keys.refuse_value("num_hidden_layers", f"the pattern of layers names {len(blocks)}", len(blocks))
        return blocks
    layers = keys.need("num_hidden_layers", "num_layers", "n_layer", "n_layers", most=MOST_LAYERS)
    return [Layer(*kinds) for kinds in zip(_mixers(keys, layers), _mlps(keys, layers), strict=True)]


def mtp_blocks(keys: Keys) -> list[Layer]:
    """The blocks of one multi-token-prediction layer where the config lists them, as Nemotron-H's do."""
    return _blocks(keys, "mtp_hybrid_override_pattern", "mtp_layers_block_type")


def _blocks(keys: Keys, pattern: str, listed: str) -> list[Layer]:
    text = keys.text(pattern)
    names = list(text.replace("|", "")) if text else []
    if not names and keys.present(listed):
        names = keys.names(listed)
        # Granite-4 and Jamba list mixers under this name; each of their layers has an MLP too.
        if not {"moe", "mlp"} & set(names):
            return []
    if len(names) > MOST_LAYERS or any(name not in _BLOCKS for name in names):
        keys.refuse_value(pattern if text else listed, f"must be of {', '.join(_BLOCKS)}", "MEM*E")
    return [_BLOCKS[name] for name in names]


def _mixers(keys: Keys, layers: int) -> list[MixerKind]:
    for rule in _MIXER_RULES:
        kinds = rule(keys, layers)
        if kinds is not None:
            if len(kinds) < layers:
                keys.refuse(f"its config.json lists the attention of {len(kinds)} of {layers} layers")
            return kinds[:layers]
    return ["full"] * layers


def _listed_types(keys: Keys, layers: int) -> list[MixerKind] | None:  # noqa: ARG001
    key = keys.present("layer_types", "layers_block_type")
    if key is None:
        return None
    names = keys.names(key)
    for name in names:
        if name not in _MIXERS:
            keys.refuse(f"its config.json has the unknown layer type {name[:40]!r} in {key}")
    return [_MIXERS[name] for name in names]


def _kimi_lists(keys: Keys, layers: int) -> list[MixerKind] | None:
    section = keys.section("linear_attn_config")
    if section.present("full_attn_layers") is None:
        return None
    full = set(section.numbers("full_attn_layers"))  # counted from 1
    return ["full" if i + 1 in full else "linear" for i in range(layers)]


def _attending_indices(keys: Keys, layers: int) -> list[MixerKind] | None:
    """LFM2: the indices of the layers that attend; all others are convolutions."""
    if keys.present("full_attn_idxs") is None:
        return None
    full = set(keys.numbers("full_attn_idxs"))
    return ["full" if i in full else "conv" for i in range(layers)]


def _minimax_list(keys: Keys, layers: int) -> list[MixerKind] | None:  # noqa: ARG001
    if keys.present("attn_type_list") is None:
        return None
    return ["full" if kind else "linear" for kind in keys.numbers("attn_type_list")]


def _mimo_list(keys: Keys, layers: int) -> list[MixerKind] | None:  # noqa: ARG001
    if keys.present("hybrid_layer_pattern") is None:
        return None
    return ["window" if kind else "full" for kind in keys.numbers("hybrid_layer_pattern")]


def _period(keys: Keys, layers: int) -> list[MixerKind] | None:
    """Jamba: one layer of each period attends, all others are Mamba's."""
    if keys.present("attn_layer_period") is None:
        return None
    period, offset = keys.count("attn_layer_period", least=1), keys.count("attn_layer_offset")
    return ["full" if i % period == offset else "mamba" for i in range(layers)]


def _interval(keys: Keys, layers: int) -> list[MixerKind] | None:
    """Qwen3-Next, Ling: the last layer of each group attends; Ling's last, incomplete group does too."""
    key = keys.present("full_attention_interval", "layer_group_size")
    if key is None:
        return None
    size = keys.count(key, least=1)
    whole = layers // size * size if key == "layer_group_size" else layers
    return ["full" if (i + 1) % size == 0 or i >= whole else "linear" for i in range(layers)]


def _window_pattern(keys: Keys, layers: int) -> list[MixerKind] | None:
    """All but every n-th layer have a window. A window alone says nothing: most engines then ignore it."""
    key = keys.present("sliding_window_pattern", "global_attn_every_n_layers")
    if key is None or not keys.raw("sliding_window", "attention_chunk_size"):
        return None
    text = keys.text(key)
    if text and set(text) <= set("LG"):
        return ["full" if text[i % len(text)] == "G" else "window" for i in range(layers)]
    size = keys.count(key)
    return ["full" if not size or (i + 1) % size == 0 else "window" for i in range(layers)]


#: The first rule whose key is there decides.
_MIXER_RULES: tuple[Callable[[Keys, int], list[MixerKind] | None], ...] = (
    _listed_types, _attending_indices, _kimi_lists, _minimax_list, _mimo_list, _period, _interval, _window_pattern,
)  # fmt: skip


def _mlps(keys: Keys, layers: int) -> list[MlpKind]:
    for rule in _MLP_RULES:
        moe = rule(keys, layers)
        if moe is not None:
            return ["moe" if i in moe else "dense" for i in range(layers)]
    return ["moe" if i in _by_frequency(keys, layers) else "dense" for i in range(layers)]


def _listed_mlps(keys: Keys, layers: int) -> set[int] | None:
    if keys.present("mlp_layer_types") is None:
        return None
    names = keys.names("mlp_layer_types")
    if len(names) < layers or any(name not in _MLPS for name in names):
        keys.refuse_value("mlp_layer_types", f"must name {layers} layers as sparse or dense", ["sparse"])
    return {i for i, name in enumerate(names) if _MLPS[name] == "moe"}


def _switches(keys: Keys, layers: int) -> set[int] | None:
    """A list with a 1 for each MoE layer."""
    if not isinstance(keys.raw("moe_layer_freq"), list):
        return None
    listed = keys.numbers("moe_layer_freq")
    if len(listed) < layers:
        keys.refuse_value("moe_layer_freq", f"must have a number for each of the {layers} layers", [1] * 3)
    return {i for i, switch in enumerate(listed[:layers]) if switch}


def _indices(keys: Keys, layers: int) -> set[int] | None:
    """A list of the MoE layers' indices."""
    key = next((k for k in ("moe_layers", "moe_layers_enum") if keys.raw(k)), None)
    if key is None:
        return None
    listed = set(keys.numbers(key))
    if max(listed) >= layers:
        keys.refuse_value(key, f"names a layer beyond the {layers}", layers - 1)
    return listed


def _interleaved(keys: Keys, layers: int) -> set[int] | None:
    """Llama-4: the last layer of each step."""
    if keys.present("interleave_moe_layer_step") is None:
        return None
    step = keys.count("interleave_moe_layer_step", least=1)
    return set(range(step - 1, layers, step))


def _from_to(keys: Keys, layers: int) -> set[int] | None:
    """ERNIE: a range of layers and an interval; the VL models give a value for each modality, text first."""
    if keys.present("moe_layer_start_index") is None:
        return None
    first, last = (_of_text(keys, f"moe_layer_{end}_index") for end in ("start", "end"))
    interval = keys.count("moe_layer_interval", default=1, least=1)
    last = layers - 1 if last < 0 else min(last, layers - 1)
    return {i for i in range(first, last + 1) if (i + 1) % interval == 0}


def _of_text(keys: Keys, key: str) -> int:
    value = keys.raw(key)
    value = value[0] if isinstance(value, list) and value else value
    if value is None or value == -1:
        return -1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_LAYERS:
        keys.refuse_value(key, "must be the index of a layer", 1)
    return value


def _expert_period(keys: Keys, layers: int) -> set[int] | None:
    """Jamba."""
    if keys.present("expert_layer_period") is None:
        return None
    period, offset = keys.count("expert_layer_period", least=1), keys.count("expert_layer_offset")
    return {i for i in range(layers) if i % period == offset}


#: The first rule whose key is there decides.
_MLP_RULES: tuple[Callable[[Keys, int], set[int] | None], ...] = (
    _listed_mlps, _switches, _indices, _interleaved, _from_to, _expert_period,
)  # fmt: skip


def _by_frequency(keys: Keys, layers: int) -> set[int]:
    """Dense layers first, then every n-th: DeepSeek counts n from layer 0, Qwen from layer 1."""
    first = keys.count("first_k_dense_replace", "num_dense_layers", "moe_layer_num_skipped")
    deepseek = keys.count("moe_layer_freq", default=1, least=1)
    qwen = keys.count("decoder_sparse_step", "moe_layer_frequency", "moe_every_n_layers", default=1, least=1)
    dense = set(keys.numbers("mlp_only_layers")) if keys.raw("mlp_only_layers") else set()
    return {i for i in range(first, layers) if i % deepseek == 0 and (i + 1) % qwen == 0 and i not in dense}
