"""Write a file that ``torch.load(weights_only=True)`` reads, without torch.

The format is a zip of a pickle that names tensors by reference, and their bytes one file each
(torch/serialization.py). The engine's environment has no torch: it would be 4 GB for this one file.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_STORAGE = {np.dtype(np.int32): "IntStorage", np.dtype(np.int64): "LongStorage", np.dtype(np.float32): "FloatStorage"}


def save(path: Path, content: dict[str, Any]) -> None:
    """Write dicts and lists of None, whole numbers, texts and arrays (int32, int64, float32) as torch would.

    Raises:
        TypeError: a value of another type.
    """
    arrays: list[npt.NDArray[Any]] = []
    pickled = b"\x80\x02" + _value(content, arrays) + b"."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(arrays):
            archive.writestr(f"archive/data/{key}", array.astype(array.dtype.newbyteorder("<")).tobytes())
        archive.writestr("archive/version", "3\n")


def _value(value: Any, arrays: list[npt.NDArray[Any]]) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, int) and not isinstance(value, bool):
        return _int(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return b"](" + b"".join(_value(v, arrays) for v in value) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_text(k) + _value(v, arrays) for k, v in value.items()) + b"u"
    if isinstance(value, np.ndarray) and value.dtype in _STORAGE:
        arrays.append(np.ascontiguousarray(value))
        return _tensor(arrays[-1], len(arrays) - 1)
    raise TypeError(f"cannot write {type(value).__name__}")


def _tensor(array: npt.NDArray[Any], key: int) -> bytes:
    """Call of torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    storage = b"(" + _text("storage") + _global("torch", _STORAGE[array.dtype]) + _text(str(key)) + _text("cpu")
    storage += _int(array.size) + b"tQ"
    strides = tuple(s // array.itemsize for s in array.strides)
    hooks = _global("collections", "OrderedDict") + b")R"
    arguments = storage + _int(0) + _ints(array.shape) + _ints(strides) + b"\x89" + hooks
    return _global("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _ints(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()
