"""How many bytes a weight takes in each form that checkpoints use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Form(NamedTuple):
    """The form of a matrix.

    Attributes:
        weight_bytes: of one weight.
        scale_bytes: of scales and zero points, per weight.
        block: side of the square blocks that share a scale and may not be split; 0 without such blocks.
    """

    weight_bytes: float
    scale_bytes: float = 0.0
    block: int = 0

    @property
    def bytes(self) -> float:
        """Bytes per weight, scales included."""
        return self.weight_bytes + self.scale_bytes


BITS_16 = Form(2.0)
BITS_32 = Form(4.0)
BITS_8 = Form(1.0)


def blocks(side: int, weight_bytes: float = 1.0) -> Form:
    """Square blocks with one fp32 scale each (DeepSeek-V3's report, section 3.3.2)."""
    return Form(weight_bytes, 4 / side**2, side)


def groups(bits: float, size: int, scale: float = 2.0, zero_bits: float = 0.0) -> Form:
    """Groups of ``size`` weights that share ``scale`` bytes, and a zero point of ``zero_bits``."""
    return Form(bits / 8, (scale + zero_bits / 8) / size if size > 0 else 0.0)


#: NVIDIA's 4-bit floats have an 8-bit scale for 16 weights, OCP's MX forms one for 32.
NVFP4, MXFP4, MXFP8, MXFP6 = groups(4, 16, 1), groups(4, 32, 1), groups(8, 32, 1), groups(6, 32, 1)
INT4_128 = groups(4, 128)

#: modelopt's ``quant_algo``.
ALGORITHMS: Mapping[str, Form] = MappingProxyType(
    {
        "FP8": BITS_8, "FP8_PER_CHANNEL_PER_TOKEN": BITS_8, "FP8_PB_WO": blocks(128), "FP8_PB_REAL": blocks(128),
        "FP8_BLOCK_SCALES": blocks(128), "W8A16": BITS_8, "W8A8_SQ_PER_CHANNEL": BITS_8, "INT8_SQ": BITS_8,
        "INT8": BITS_8, "NVFP4": NVFP4, "NVFP4_AWQ": NVFP4, "NVFP4_SVDQUANT": NVFP4, "W4A16_NVFP4": NVFP4,
        "W4A8_NVFP4_FP8": groups(4, 32, 1),
        "MXFP4": MXFP4, "W4A8_MXFP4_FP8": MXFP4, "W4A16_MXFP4": MXFP4, "W4A8_MXFP4_MXFP8": MXFP4, "MXFP8": MXFP8,
        "W4A16": INT4_128, "W4A16_AWQ": INT4_128, "W4A8_AWQ": INT4_128, "INT4_AWQ": INT4_128, "W4AFP8": INT4_128,
        "NO_QUANT": BITS_16, "NONE": BITS_16,
    }
)  # fmt: skip
#: ``quant_method`` values that say everything by themselves.
METHODS: Mapping[str, Form] = MappingProxyType(
    {
        "fbgemm_fp8": BITS_8, "ptpc_fp8": BITS_8, "w8a8_fp8": BITS_8, "w8a8_int8": BITS_8, "experts_int8": BITS_8,
        "mxfp4": MXFP4, "mxfp8": MXFP8, "nvfp4": NVFP4, "modelopt_fp4": NVFP4, "petit_nvfp4": NVFP4,
        "modelopt_fp8": BITS_8, "w4afp8": INT4_128,
    }
)  # fmt: skip
#: ``expert_dtype`` of DeepSeek-V4.
EXPERT_DTYPES: Mapping[str, Form] = MappingProxyType({"fp4": MXFP4, "fp8": blocks(128), "bf16": BITS_16})
