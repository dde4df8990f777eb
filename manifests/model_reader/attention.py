"""Matrices and KV cache of a layer that attends: grouped queries, latent attention, DeepSeek-V4's compressed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wideloop.manifests.model_reader.families import Family
from wideloop.manifests.model_reader.keys import Keys

#: Bytes of a cached value: engines keep the cache in 16 bits unless they are told otherwise.
_CACHED = 2
#: Bytes per token of a sparse-attention index key beside its 8-bit values: one fp32 scale per 128.
_INDEX_SCALE = 4

_KV_HEADS = ("num_key_value_heads", "num_attention_groups", "n_head_kv", "kv_n_heads")
#: Width of MLA's latent vector; openPangu has names of its own for all of these.
_RANK = ("kv_lora_rank", "attention_kv_lora_dim")
#: Names under which layers without a window have a number of their own (Gemma-4).
_GLOBAL = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}


@dataclass(frozen=True)
class Mixer:
    """What mixes the tokens of one layer.

    Attributes:
        linear: weights of each matrix, by its name below the layer.
        copied: weights that tensor parallelism copies instead of dividing.
        absorbed: of MLA's up-projections, which engines keep in 16 bits too, to multiply them into the queries.
        kv_bytes: bytes of one cached token.
        state_bytes: bytes that a request keeps, however long it is.
        heads, head_dim: query heads and their width.
        kv_heads: ways in which tensor parallelism can split the cache.
        rotary_dim: width of the table of rotary angles.
    """

    linear: Mapping[str, int]
    copied: int = 0
    absorbed: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    heads: int = 0
    head_dim: int = 0
    kv_heads: int = 1
    rotary_dim: int = 0


def attention(keys: Keys, family: Family, index: int, *, windowed: bool) -> Mixer:
    """The attention of layer ``index``; ``windowed``: of a layer with a sliding or chunked window."""
    if keys.raw("compress_ratios") is not None:
        return _compressed(keys, index)
    if keys.count(*_RANK) and not (windowed and keys.present("swa_num_attention_heads")):
        return _latent(keys, index)
    return _grouped(keys, family, index, windowed=windowed)


def head_dim_of(keys: Keys, hidden: int, heads: int) -> int:
    """Width of an attention head."""
    width = keys.count("head_dim", "attention_head_dim", "kv_channels")
    if width:
        return width
    if hidden % heads:
        keys.refuse(f"its config.json has no head_dim, and hidden_size = {hidden} is no multiple of {heads} heads")
    return hidden // heads


def _grouped(keys: Keys, family: Family, index: int, *, windowed: bool) -> Mixer:
    hidden, heads = _hidden(keys), _heads(keys, index, windowed=windowed)
    kv_heads = _of_kind(keys, _KV_HEADS, heads, windowed=windowed)
    width = _of_kind(keys, ("head_dim", "attention_head_dim", "kv_channels"), 0, windowed=windowed)
    width = width or head_dim_of(keys, hidden, heads)
    value = _of_kind(keys, ("v_head_dim",), width, windowed=windowed)
    query = hidden * heads * width
    low_rank = keys.count("share_q_dim")  # Step-3: the queries share a down-projection
    linear = {
        "self_attn.q_proj": hidden * low_rank + low_rank * heads * width if low_rank else query,
        "self_attn.k_proj": hidden * kv_heads * width,
        "self_attn.v_proj": hidden * kv_heads * value,
        "self_attn.o_proj": heads * value * hidden,
        "self_attn.g_proj": hidden * _gate_columns(keys, family, heads, value),
    }
    if not windowed and keys.flag("attention_k_eq_v"):
        del linear["self_attn.v_proj"]  # Gemma-4: the keys are the values; both are cached
    index_bytes = _sparse_index(keys, index, hidden, linear)
    return Mixer(
        linear={name: params for name, params in linear.items() if params},
        kv_bytes=_CACHED * kv_heads * (width + value) + index_bytes,
        heads=heads,
        head_dim=width,
        kv_heads=kv_heads,
        rotary_dim=int(width * keys.ratio("partial_rotary_factor")),
    )


def _gate_columns(keys: Keys, family: Family, heads: int, value: int) -> int:
    if keys.flag("attn_output_gate", "attention_output_gate") or family.gate == "value":
        return heads * value
    if family.gate == "head" or keys.flag("use_head_wise_attn_gate"):
        return heads
    return 0


def _sparse_index(keys: Keys, index: int, hidden: int, linear: dict[str, int]) -> int:
    """MiniMax-M3's block index: adds its projections to ``linear`` and returns the bytes of its cached key."""
    section = keys.section("sparse_attention_config")
    if section.flag("use_sparse_attention"):
        switches = section.numbers("sparse_attention_freq")
        if index >= len(switches) or not switches[index]:
            return 0
        width, heads = section.need("sparse_index_dim"), section.need("sparse_num_index_heads")
    elif keys.present("index_head_dim") and "sparse" in str(_named_type(keys, index)):
        width, heads = keys.need("index_head_dim"), keys.need("index_n_heads")
    else:
        return 0
    linear["self_attn.index_q_proj"] = hidden * heads * width
    linear["self_attn.index_k_proj"] = hidden * width
    return _CACHED * width


def _named_type(keys: Keys, index: int) -> str:
    types = keys.names("layer_types") if keys.present("layer_types") else []
    return types[index] if index < len(types) else ""


def _of_kind(keys: Keys, names: tuple[str, ...], default: int, *, windowed: bool) -> int:
    """A number that layers with and without window may have apart: MiMo's ``swa_*``, Gemma's ``global_*``."""
    if windowed:
        return keys.count(*(f"swa_{name}" for name in names), default=keys.count(*names, default=default))
    wide = [_GLOBAL[name] for name in names if name in _GLOBAL]
    return keys.count(*wide, default=keys.count(*names, default=default))


def _heads(keys: Keys, index: int, *, windowed: bool) -> int:
    if keys.raw("num_attention_heads_per_layer") is not None:
        listed = keys.numbers("num_attention_heads_per_layer")
        if index < len(listed):
            return listed[index]
    heads = keys.need("num_attention_heads", "n_head", "n_heads")
    if not windowed:
        return heads
    other = keys.section("attention_other_setting")  # Step-3.5
    return other.count("num_attention_heads", default=keys.count("swa_num_attention_heads", default=heads))


def _latent(keys: Keys, index: int) -> Mixer:
    """Multi-head latent attention: one latent vector and one rotary key per token."""
    hidden, heads = _hidden(keys), keys.need("num_attention_heads")
    rank, rope = keys.need(*_RANK), keys.count("qk_rope_head_dim", "attention_qk_rope_dim")
    nope, value = keys.need("qk_nope_head_dim", "attention_qk_dim"), keys.need("v_head_dim", "attention_v_dim")
    q_rank = keys.count("q_lora_rank", "attention_q_lora_dim")
    query, up = heads * (nope + rope), rank * heads * (nope + value)
    linear = {
        "self_attn.kv_a_proj_with_mqa": hidden * (rank + rope),
        "self_attn.kv_b_proj": up,
        "self_attn.o_proj": heads * value * hidden,
    }
    if q_rank:
        linear |= {"self_attn.q_a_proj": hidden * q_rank, "self_attn.q_b_proj": q_rank * query}
    else:
        linear["self_attn.q_proj"] = hidden * query
    if keys.flag("mla_use_output_gate"):
        linear["self_attn.g_proj"] = hidden * heads * value
    index_bytes = _index(keys, index, hidden, q_rank or hidden, linear)
    return Mixer(
        linear=linear,
        copied=hidden * (rank + rope + q_rank),
        absorbed=up,
        kv_bytes=_CACHED * (rank + rope) + index_bytes,
        heads=heads,
        head_dim=nope + rope,
        rotary_dim=rope,
    )


def _index(keys: Keys, index: int, hidden: int, query: int, linear: dict[str, int]) -> int:
    """DeepSeek's sparse attention: adds the indexer to ``linear`` and returns the bytes of its cached key (fp8)."""
    width, heads = keys.count("index_head_dim"), keys.count("index_n_heads")
    if not width:
        return 0
    if keys.raw("indexer_types") is not None:
        types = keys.names("indexer_types")
        if index < len(types) and types[index] == "shared":
            return 0
    linear["self_attn.indexer.wq_b"] = query * heads * width
    linear["self_attn.indexer.wk"] = hidden * width
    linear["self_attn.indexer.weights_proj"] = hidden * heads
    return width + _INDEX_SCALE * -(-width // 128)


def _compressed(keys: Keys, index: int) -> Mixer:
    """DeepSeek-V4: every layer keeps a window; most keep one cached entry for each 4 or 128 older tokens as well."""
    hidden, heads, width = _hidden(keys), keys.need("num_attention_heads"), keys.need("head_dim")
    q_rank, o_rank, groups = keys.need("q_lora_rank"), keys.need("o_lora_rank"), keys.need("o_groups")
    ratios, rope = keys.numbers("compress_ratios"), keys.count("qk_rope_head_dim")
    ratio = ratios[index] if index < len(ratios) else 0
    linear = {
        "self_attn.q_a_proj": hidden * q_rank,
        "self_attn.q_b_proj": q_rank * heads * width,
        "self_attn.kv_proj": hidden * width,
        "self_attn.o_a_proj": heads * width * o_rank,
        "self_attn.o_b_proj": groups * o_rank * hidden,
    }
    # 8-bit values with a byte of scale for each 64, the rotary part in 16 bits.
    entry = width - rope + (width - rope) // 64 + 1 + _CACHED * rope
    cached = 0
    if ratio:
        # A ratio of 4 overlaps its groups, which doubles the compressor, and selects among them with an indexer.
        sides = 2 if ratio < 128 else 1
        linear["self_attn.compressor.wkv"] = linear["self_attn.compressor.wgate"] = hidden * sides * width
        cached = -(-entry // ratio)
        if sides == 2:
            index_width, index_heads = keys.need("index_head_dim"), keys.need("index_n_heads")
            linear["self_attn.indexer.wq_b"] = q_rank * index_heads * index_width
            linear["self_attn.indexer.compressor"] = 2 * hidden * sides * index_width
            linear["self_attn.indexer.weights_proj"] = hidden * index_heads
            cached += -(-(index_width + _INDEX_SCALE) // ratio)
    window = keys.count("sliding_window") * entry
    return Mixer(
        linear=linear,
        copied=hidden * (q_rank + width),
        kv_bytes=cached,
        state_bytes=window,
        heads=heads,
        head_dim=width,
        rotary_dim=rope,
    )


def _hidden(keys: Keys) -> int:
    return keys.need("hidden_size", "n_embd", "d_model")
