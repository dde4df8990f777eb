"""Matrices and state of layers without a KV cache: linear attention, Mamba, short convolutions.

A key that such a config leaves out has the value of the family's class in Transformers (Qwen3-Next, Nemotron-H).
"""

from __future__ import annotations

from wideloop.manifests.model_reader.attention import Mixer, head_dim_of
from wideloop.manifests.model_reader.keys import Keys

#: Bytes of a state's values: fp32 for what is summed up, 16 bits for a convolution's last inputs.
_STATE, _CONVOLVED = 4, 2


def linear_attention(keys: Keys) -> Mixer:
    """Gated delta nets (Qwen3-Next), Kimi's delta attention, or lightning attention (MiniMax, Ling)."""
    if keys.raw("linear_attn_config") is not None:
        section = keys.section("linear_attn_config")
        width = section.need("head_dim")
        return _kimi(keys, section.need("num_heads"), width, section.flag("use_full_rank_gate"))
    if keys.present("mamba_n_heads"):
        return mamba(keys)
    if keys.present("linear_head_dim"):
        return _kimi(keys, keys.need("linear_num_heads"), keys.need("linear_head_dim"), full_gate=False)
    if keys.present("attn_type_list") or keys.present("layer_group_size"):
        if keys.raw("short_conv_kernel_size") is not None:
            return _kimi(keys, keys.need("num_attention_heads"), keys.need("head_dim"), full_gate=False)
        return _lightning(keys)
    return _delta_net(keys)


def _delta_net(keys: Keys) -> Mixer:
    hidden = keys.need("hidden_size")
    key_heads, value_heads = (keys.count(f"linear_num_{k}_heads", default=n) for k, n in (("key", 16), ("value", 32)))
    key_dim, value_dim = (keys.count(f"linear_{k}_head_dim", default=128) for k in ("key", "value"))
    kernel = keys.count("linear_conv_kernel_dim", default=4)
    queries, values = key_heads * key_dim, value_heads * value_dim
    convolved = 2 * queries + values
    return Mixer(
        linear={
            "linear_attn.in_proj_qkv": hidden * convolved,
            "linear_attn.in_proj_z": hidden * values,
            "linear_attn.in_proj_ba": 2 * hidden * value_heads,
            "linear_attn.conv1d": convolved * kernel,
            "linear_attn.out_proj": values * hidden,
        },
        state_bytes=_STATE * value_heads * key_dim * value_dim + _CONVOLVED * convolved * (kernel - 1),
        heads=key_heads,
        head_dim=key_dim,
    )


def _kimi(keys: Keys, heads: int, width: int, full_gate: bool) -> Mixer:
    hidden, inner = keys.need("hidden_size"), heads * width
    low_rank = hidden * width + width * inner
    return Mixer(
        linear={
            "self_attn.qkv_proj": 3 * hidden * inner,
            "self_attn.f_proj": low_rank,
            "self_attn.b_proj": hidden * heads,
            "self_attn.g_proj": hidden * inner if full_gate else low_rank,
            "self_attn.o_proj": inner * hidden,
        },
        state_bytes=_STATE * heads * width * width + _CONVOLVED * 3 * inner * 3,
        heads=heads,
        head_dim=width,
    )


def _lightning(keys: Keys) -> Mixer:
    hidden, heads = keys.need("hidden_size"), keys.need("num_attention_heads")
    width = head_dim_of(keys, hidden, heads)
    inner = heads * width
    return Mixer(
        linear={
            "self_attn.qkv_proj": 3 * hidden * inner,
            "self_attn.output_gate": hidden * inner,
            "self_attn.out_proj": inner * hidden,
        },
        state_bytes=_STATE * heads * width * width,
        heads=heads,
        head_dim=width,
    )


def mamba(keys: Keys) -> Mixer:
    """Mamba 2 (Nemotron-H, Granite-4), or Mamba 1 where there are no heads (Jamba)."""
    hidden = keys.need("hidden_size")
    expand = keys.count("mamba_expand", "expand", default=2)
    state = keys.count("ssm_state_size", "mamba_d_state", default=128)
    kernel = keys.count("conv_kernel", "mamba_d_conv", default=4)
    if keys.present("mamba_dt_rank") or keys.present("attn_layer_period"):
        return _mamba_1(keys, hidden, expand * hidden, state, kernel)
    heads = keys.count("mamba_num_heads", "mamba_n_heads", default=128)
    width = keys.raw("mamba_head_dim", "mamba_d_head")
    inner = expand * hidden if width in (None, "auto") else heads * keys.count("mamba_head_dim", "mamba_d_head")
    groups = keys.count("n_groups", "mamba_n_groups", default=8)
    convolved = inner + 2 * groups * state
    return Mixer(
        linear={
            "mixer.in_proj": hidden * (inner + convolved + heads),
            "mixer.conv1d": convolved * kernel,
            "mixer.out_proj": inner * hidden,
        },
        state_bytes=_STATE * inner * state + _CONVOLVED * convolved * (kernel - 1),
        heads=heads,
        head_dim=inner // heads if heads else 0,
    )


def _mamba_1(keys: Keys, hidden: int, inner: int, state: int, kernel: int) -> Mixer:
    rank = keys.raw("mamba_dt_rank")
    rank = -(-hidden // 16) if rank in (None, "auto") else keys.count("mamba_dt_rank")
    return Mixer(
        linear={
            "mamba.in_proj": hidden * 2 * inner,
            "mamba.conv1d": inner * kernel,
            "mamba.x_proj": inner * (rank + 2 * state),
            "mamba.dt_proj": rank * inner,
            "mamba.A_log": inner * state,
            "mamba.out_proj": inner * hidden,
        },
        state_bytes=_STATE * inner * state + _CONVOLVED * inner * (kernel - 1),
    )


def short_convolution(keys: Keys) -> Mixer:
    """LFM2's gated convolution over the last few tokens."""
    hidden, kernel = keys.need("hidden_size"), keys.count("conv_L_cache", default=3)
    return Mixer(
        linear={"conv.in_proj": 3 * hidden * hidden, "conv.conv": hidden * kernel, "conv.out_proj": hidden * hidden},
        state_bytes=_CONVOLVED * hidden * kernel,
    )
