"""Placements in the forms that engines load, and back.

* ``sglang``: for ``--init-expert-location``, ``{"physical_to_logical_map": [[expert of each slot] per layer]}``, a row
  for every layer, dense ones too; any further key is a TypeError there. JSON, or a ``.pt`` of ``torch.save``, which is
  read here and not written. Loaded by SGLang 0.5.17 and read in 0.5.23's source.
* ``tensorrt_llm``: YAML for ``moe_config.load_balancer`` with ``num_slots``, ``initial_global_assignments`` (the
  row of each MoE layer by the layer's number in the model) and ``layer_updates_per_iter`` 0, which makes it
  static. From TensorRT-LLM's documentation and ``MoeLoadBalancerConfig``; not tried with the engine.
* ``vllm``: JSON, one list per MoE layer in order. No release loads one; this is the form of the open
  vllm-project/vllm pull request 49572 (``eplb_config.initial_expert_map_path``), from its description only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.regular_files import check_regular
from wideloop.tuning.placement.placement import Ints, Placement, trivial
from wideloop.tuning.torch_files import Archive, Tensor, Unreadable, read_pickle

Form = Literal["sglang", "vllm", "tensorrt_llm"]
#: A 61-layer map of 512 slots is 150 kB.
MAX_BYTES = 16 * 1024**2


class _Unusable(ValueError):
    """A placement file cannot be used; the message continues a sentence that begins with the file's name."""


def to_sglang(placement: Placement) -> str:
    """JSON with a row for every layer."""
    return json.dumps({"physical_to_logical_map": placement.physical_to_logical.tolist()})


def to_vllm(placement: Placement, dense: Iterable[int] = ()) -> str:
    """JSON with a row for every layer but the ``dense`` ones (numbered in the model)."""
    return json.dumps([placement.physical_to_logical[i].tolist() for i in _sparse(placement.layers, dense)])


def to_tensorrt_llm(placement: Placement, dense: Iterable[int] = ()) -> str:
    """YAML with a row for every layer but the ``dense`` ones (numbered in the model)."""
    rows = {i: placement.physical_to_logical[i].tolist() for i in _sparse(placement.layers, dense)}
    content = {"num_slots": placement.slots, "initial_global_assignments": rows, "layer_updates_per_iter": 0}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=2**16)


def read(
    path: Path, ep: int, experts: int, form: Form = "sglang", layers: int | None = None, dense: Iterable[int] = ()
) -> Placement:
    """Read a placement file.

    Args:
        ep: number of ranks of the worker.
        experts: logical experts of the model.
        layers: layers of the model, dense ones included; None: derived from the file and ``dense``.
        dense: layers without experts, which no form but SGLang's has rows for; they get the trivial order.

    Raises:
        Refused: no placement file of that form, or it does not fit the model or ``ep``.
    """
    if form not in get_args(Form):
        raise ValueError(f"{form!r} is none of {', '.join(get_args(Form))}")
    try:
        table = _table(_content(path, form), form, layers, sorted(set(dense)), experts)
        if layers is not None and len(table) != layers:
            raise _Unusable(f"has {len(table)} layers, the model {layers}")
        if table.min() < 0 or table.max() >= experts or table.shape[1] % ep:
            raise _Unusable(f"does not place {experts} experts on {ep} ranks (its map is {table.shape})")
        placement = Placement(table, ep)
        if (placement.replicas(experts) == 0).any():
            layer, expert = np.argwhere(placement.replicas(experts) == 0)[0]
            raise _Unusable(f"leaves expert {expert} of layer {layer} without any slot")
    except _Unusable as problem:
        rule, suggestion = str(problem), "Make one from a recording with `wideloop placement make FILES --ep RANKS`"
        raise Refused([Finding(field="expert_placement", value=str(path), rule=rule, suggestion=suggestion)]) from None
    return placement


def _content(path: Path, form: Form) -> Any:
    try:
        check_regular(path, MAX_BYTES)
        if form == "sglang" and path.suffix == ".pt":
            return _torch_content(path)
        text = path.read_text(encoding="utf-8")
        return yaml.safe_load(text) if form == "tensorrt_llm" else json.loads(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, _Unusable):
            raise
        raise _Unusable(f"is no placement file ({type(error).__name__})") from error


def _torch_content(path: Path) -> Any:
    """What a file of ``torch.save`` holds, its tensors as arrays."""
    try:
        with Archive(path) as archive:
            content = read_pickle(archive.pickle())
            if not isinstance(content, dict):
                return content
            return {k: archive.whole(v).tolist() if isinstance(v, Tensor) else v for k, v in content.items()}
    except Unreadable as problem:
        raise _Unusable(str(problem)) from problem


def _table(content: Any, form: Form, layers: int | None, dense: Sequence[int], experts: int) -> Ints:
    """[layers, slots]."""
    if form == "sglang":
        if isinstance(content, Mapping) and ("logical_count" in content or "records" in content):
            raise _Unusable("is a recording of which experts were chosen, not a placement")
        if not isinstance(content, Mapping) or set(content) != {"physical_to_logical_map"}:
            raise _Unusable("is no placement file (it must hold physical_to_logical_map and nothing else)")
        return _rows(content["physical_to_logical_map"])
    if form == "vllm":
        if isinstance(content, list) and content and not isinstance(content[0], list):
            if layers is None:
                raise _Unusable("has one row for all layers, so the number of layers must be given")
            content = [content] * (layers - len(dense))
        rows = _rows(content)
        numbers = _sparse(len(rows) + len(dense), dense)
        if len(numbers) != len(rows):
            raise _Unusable(f"has {len(rows)} rows, which leaves no layer {dense[-1]} without experts")
        return _with_dense(dict(zip(numbers, rows, strict=True)), dense, experts)
    by_layer = content.get("initial_global_assignments") if isinstance(content, Mapping) else None
    if not isinstance(by_layer, Mapping) or not by_layer or not all(type(k) is int for k in by_layer):
        raise _Unusable("is no placement file (it must hold initial_global_assignments by layer number)")
    rows = _rows([by_layer[i] for i in sorted(by_layer)])
    if content.get("num_slots", rows.shape[1]) != rows.shape[1]:
        raise _Unusable(f"has rows of {rows.shape[1]} slots and says num_slots {content['num_slots']}")
    return _with_dense(dict(zip(sorted(by_layer), rows, strict=True)), dense, experts)


def _rows(content: Any) -> Ints:
    try:
        table = np.asarray(content)
    except ValueError:
        table = np.empty(0)
    if table.ndim != 2 or not table.size or table.dtype.kind != "i":
        raise _Unusable("is no placement file (its map must be equally long rows of whole numbers)")
    return table.astype(np.int64)


def _with_dense(rows: Mapping[int, Ints], dense: Sequence[int], experts: int) -> Ints:
    """One row per layer, those of ``dense`` layers in the trivial order."""
    layers = len(rows) + len(dense)
    if sorted([*rows, *dense]) != list(range(layers)):
        missing = sorted(set(range(max([*rows, *dense]) + 1)) - set(rows) - set(dense))
        raise _Unusable(f"has no row for layer {missing[0]}" if missing else "has rows for layers without experts")
    slots = len(next(iter(rows.values())))
    default = trivial(1, experts, max(slots - experts, 0), 1).physical_to_logical[0][:slots]
    return np.stack([rows.get(i, default) for i in range(layers)])


def _sparse(layers: int, dense: Iterable[int]) -> list[int]:
    """The layers that have experts."""
    without = set(dense)
    return [i for i in range(layers) if i not in without]
