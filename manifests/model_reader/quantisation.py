"""The form of each matrix of a checkpoint, from ``quantization_config`` and ``hf_quant_config.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wideloop.manifests.model_reader.forms import (
    ALGORITHMS,
    BITS_8,
    BITS_16,
    EXPERT_DTYPES,
    INT4_128,
    METHODS,
    Form,
    blocks,
    groups,
)
from wideloop.manifests.model_reader.keys import Keys
from wideloop.manifests.model_reader.patterns import Patterns, names_of

#: The form of the matrix of that name; ``experts`` stand for all of their layer.
Forms = Callable[[str], Form]
_IGNORED = ("ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers", "exclude", "llm_int8_skip_modules")
_UNQUANTISED = ("embed_tokens", "lm_head", "router")
_ALIASES = (
    ("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2"), ("in_proj_qkv", "in_proj"), ("qkv_proj", "q_proj"),
)  # fmt: skip
_GGUF = "Give the model in its safetensors form"


def read_forms(
    config: Mapping[str, Any], inner: Mapping[str, Any], keys: Keys, beside: Mapping[str, Any] | None
) -> Forms:
    """The form of each matrix.

    Args:
        config: the whole config.json.
        inner: its ``text_config``, or itself.
        beside: ``hf_quant_config.json``, which wins over a block that another form left behind.
    """
    block = config.get("quantization_config") or inner.get("quantization_config") or config.get("compression_config")
    if block is not None and not isinstance(block, dict):
        keys.refuse("its config.json has a quantization_config that is no object")
    hf = (beside or {}).get("quantization")
    if isinstance(hf, dict) and hf.get("quant_algo") and not (block or {}).get("quant_algo"):
        block = {"quant_method": "modelopt", **hf}
    forms = _Block(block or {}, keys).forms()
    experts = keys.text("expert_dtype")
    if not experts or (block or {}).get("moe_quant_algo"):
        return forms
    if experts not in EXPERT_DTYPES:
        keys.refuse_value("expert_dtype", f"must be one of {', '.join(EXPERT_DTYPES)}", "fp4")
    return lambda name: EXPERT_DTYPES[experts] if _is_routed(name) else forms(name)


class _Block:
    """One quantisation block."""

    def __init__(self, block: Mapping[str, Any], keys: Keys) -> None:
        self._block = Keys(block, keys.name, "quantization_config.")
        self._raw = block

    def forms(self) -> Forms:
        if not self._raw:
            return lambda name: BITS_16  # noqa: ARG005
        method = self._block.text("quant_method").lower().replace("_", "-")
        if self._block.text("moe_quant_algo"):
            return self._mixed_experts()
        by_name = self._by_name()
        if by_name is not None:
            return by_name
        default = self._default(method)
        ignored = Patterns(self._block, "list of ignored modules", self._ignored())

        def form(name: str) -> Form:
            if name in _UNQUANTISED or ignored.match(name):
                return BITS_16
            return default(name)

        return form

    def _ignored(self) -> Any:
        return self._block.raw(*_IGNORED)

    def _by_name(self) -> Forms | None:
        """modelopt's MIXED_PRECISION: an algorithm for each matrix; those that are not listed stay in 16 bits."""
        listed = self._block.raw("quantized_layers")
        if not isinstance(listed, dict) or not listed:
            return None
        forms = {}
        for name, entry in listed.items():
            algorithm = entry.get("quant_algo") if isinstance(entry, dict) else None
            forms[_below_prefix(str(name))] = self._algorithm(algorithm)

        def form(name: str) -> Form:
            for other in names_of(name):
                for alias in _leaves(other):
                    if alias in forms:
                        return forms[alias]
            return BITS_16

        return form

    def _mixed_experts(self) -> Forms:
        """Experts in one form, everything else in the block's own, which may be another exporter's (DeepSeek-V4)."""
        experts = self._algorithm(self._block.raw("moe_quant_algo"))
        rest = {
            k: v for k, v in self._raw.items() if k not in ("moe_quant_algo", "quant_algo", "config_groups", *_IGNORED)
        }
        others = _Block({k: v for k, v in rest.items() if k != "quantized_layers"}, self._block).forms()
        return lambda name: experts if _is_routed(name) else others(name)

    def _algorithm(self, algorithm: Any) -> Form:
        form = ALGORITHMS.get(str(algorithm).upper())
        if form is None:
            self._block.refuse(
                f"its quantisation has the unknown quant_algo {str(algorithm)[:60]!r}",
                f"Known: {', '.join(ALGORITHMS)}",
            )
        size = self._block.count("group_size", least=-1, default=0)
        return groups(form.weight_bytes * 8, size, 2) if form is INT4_128 and size > 0 else form

    def _default(self, method: str) -> Forms:
        """The form of every matrix that is not ignored."""
        by_method: Mapping[str, Callable[[], Forms]] = {
            "compressed-tensors": self._groups, "compressed_tensors": self._groups, "quark": self._quark,
            "fp8": self._fp8, "blockwise-int8": self._fp8, "bitsandbytes": self._bits_and_bytes, "w4afp8": self._w4afp8,
        }  # fmt: skip
        algorithm = self._block.raw("quant_algo")
        if algorithm is not None and str(algorithm).upper() != "MIXED_PRECISION":
            form = self._algorithm(algorithm)
            return lambda name: form  # noqa: ARG005
        if method in by_method:
            return by_method[method]()
        if method.replace("-", "_") in METHODS:
            form = METHODS[method.replace("-", "_")]
            return lambda name: form  # noqa: ARG005
        if self._block.raw("config_groups") is not None:
            return self._groups()
        if self._block.present("bits", "w_bit", "num_bits", "nbits"):
            return self._bits()
        return self._block.refuse(
            f"its config.json has the unknown quantization_config.quant_method {method[:60]!r}",
            f"Known: {', '.join(sorted({*by_method, *METHODS, 'awq', 'gptq', 'modelopt'}))}. {_GGUF}",
        )

    def _fp8(self) -> Forms:
        """Square blocks where ``weight_block_size`` says so; else one scale per tensor or channel."""
        form = BITS_8
        if self._block.raw("weight_block_size") is not None:
            sides = self._block.numbers("weight_block_size")
            if not sides or min(sides) < 1:
                self._block.refuse_value("weight_block_size", "must be two positive numbers", [128, 128])
            # MXFP8 is written as blocks of one row.
            square = sides[0] == sides[-1]
            form = blocks(sides[0]) if square else Form(1.0, (1 if sides[0] == 1 else 4) / (sides[0] * sides[-1]))
        return lambda name: form  # noqa: ARG005

    def _w4afp8(self) -> Forms:
        """Experts in 4 bits, everything else in 8."""
        size = self._block.count("group_size", default=128, least=1)
        others = self._fp8()
        return lambda name: groups(4, size) if _is_routed(name) else others(name)

    def _bits(self) -> Forms:
        """AWQ, GPTQ, AutoRound, HQQ: scales of 16 bits, and zero points as wide as the weights."""
        bits = self._block.count("bits", "w_bit", "num_bits", "nbits", least=1, most=16)
        size = self._block.count("group_size", "q_group_size", default=128, least=-1)
        form = groups(bits, size, 2, bits) if bits < 8 else Form(bits / 8)
        return lambda name: form  # noqa: ARG005

    def _bits_and_bytes(self) -> Forms:
        four = self._block.flag("load_in_4bit", "_load_in_4bit")
        form = groups(4, 64, 4) if four else BITS_8
        return lambda name: form  # noqa: ARG005

    def _groups(self) -> Forms:
        """compressed-tensors: groups of modules, each with the form of its weights."""
        listed = self._block.section("config_groups").items()
        shared = self._block.text("format")
        entries = []
        for name, group in listed:
            if not isinstance(group, dict):
                self._block.refuse(f"its quantisation has a group {str(name)[:40]!r} that is no object")
            weights = group.get("weights")
            if isinstance(weights, dict):
                form = _weights_form(Keys(weights, self._block.name, "weights."), str(group.get("format") or shared))
                entries.append(
                    (Patterns(self._block, "list of targets", group.get("targets")), group.get("targets"), form)
                )
        if not entries:
            self._block.refuse("its quantization_config.config_groups has no group with weights")

        def form_of(name: str) -> Form:
            for patterns, targets, form in entries:
                if _is_every_linear(targets) or patterns.match(name):
                    return form
            return BITS_16

        return form_of

    def _quark(self) -> Forms:
        """AMD Quark: one form of all layers, others for patterns of names."""
        whole = self._quark_form(self._block.section("global_quant_config"))
        others = [
            (Patterns(self._block, "layer_quant_config", [name]), self._quark_form(Keys(entry, self._block.name)))
            for name, entry in self._block.section("layer_quant_config").items()
            if isinstance(entry, dict)
        ]
        return lambda name: next((form for patterns, form in others if patterns.match(name)), whole)

    def _quark_form(self, entry: Keys) -> Form:
        weight = entry.raw("weight")
        weight = weight[0] if isinstance(weight, list) and weight else weight
        dtype = weight.get("dtype") if isinstance(weight, dict) else None
        forms = {"fp4": METHODS["mxfp4"], "fp8_e4m3": BITS_8, "int8": BITS_8, "int4": INT4_128, "uint4": INT4_128}
        if weight is None:
            return BITS_16
        if dtype not in forms:
            self._block.refuse(f"its quantisation has the unknown weight dtype {str(dtype)[:40]!r}")
        return forms[dtype]


def _weights_form(weights: Keys, layout: str) -> Form:
    if layout.startswith("nvfp4"):
        return METHODS["nvfp4"]
    if layout.startswith("mxfp4"):
        return METHODS["mxfp4"]
    bits = weights.need("num_bits", most=16)
    shape = weights.raw("block_structure")
    if isinstance(shape, list) and len(shape) == 2 and shape[0] == shape[1]:
        return blocks(weights.numbers("block_structure")[0], bits / 8)
    size = weights.count("group_size", least=-1)
    small = weights.text("type") == "float" or "8" in weights.text("scale_dtype")
    zero = 0.0 if small or weights.raw("symmetric") in (None, True) else bits
    return groups(bits, size, 1 if small else 2, zero)


def _is_every_linear(targets: Any) -> bool:
    return targets is None or (isinstance(targets, list) and "Linear" in targets)


def _is_routed(name: str) -> bool:
    return ".experts." in name


def _below_prefix(name: str) -> str:
    for prefix in ("model.language_model.", "language_model.model.", "model.", "backbone.", "language_model."):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _leaves(name: str) -> list[str]:
    """The names under which a list may have a matrix: its own, that of all experts, and w1 for the first of an MLP."""
    names = [name]
    names += [name.removesuffix(ours) + theirs for ours, theirs in _ALIASES if name.endswith(ours)]
    if ".experts." in name:
        names.append(name.split(".experts.")[0] + ".experts")
    return names
