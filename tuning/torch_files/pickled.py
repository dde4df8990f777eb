"""Reads the value of a dump's pickle without unpickling it.

A pickle is a program for a small stack machine, and what makes it dangerous is that it can name any function and call
it. This machine knows the instructions that ``torch.save`` writes for numbers, texts, containers and tensors, and two
names it may "call", neither of which calls anything. Tensors come out as references into the archive, so that a file
of any size is read within the size of its pickle. (torch's own restricted loader would read every tensor, and takes
seconds to import.)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wideloop.tuning.torch_files.errors import Unreadable

#: Storage types that a recorder writes, as numpy's little-endian types.
_DTYPES = {
    "ByteStorage": "|u1",
    "CharStorage": "|i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
}
_LONGEST_NAME = 200
#: Instructions of a pickle: each may make an object of 64 bytes. A thousand recorded passes have about 60,000.
_MOST_INSTRUCTIONS = 8_000_000
#: As numpy.
_MOST_AXES = 32
_REBUILD, _ORDERED_DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_NAMES = {_REBUILD, _ORDERED_DICT, *(f"torch {name}" for name in _DTYPES)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor's numbers are: in file ``data/<key>`` of the archive, from item ``offset`` on, by ``strides``."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        expected, size = [], 1
        for length in reversed(self.shape):
            expected.append(size)
            size *= length
        return all(n < 2 or a == b for n, a, b in zip(self.shape, self.strides, reversed(expected), strict=True))

    @property
    def last(self) -> int:
        """The highest item of the storage that it touches; -1 when it is empty."""
        if 0 in self.shape:
            return -1
        return self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True, slots=True)
class _Name:
    """A function or class that the pickle names; only ever compared."""

    text: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    items: int


def read_pickle(data: bytes) -> Any:
    """The value that a pickle holds: dicts, lists, tuples, texts, numbers, None and :class:`Tensor`.

    Raises:
        Unreadable: it is damaged, or holds or would call anything else; none of its code was executed.
    """
    try:
        return _Machine(data).run()
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        raise Unreadable(f"is damaged ({type(error).__name__} in its pickle)") from error


class _Machine:
    """Runs once over ``data``. Every instruction adds at most what it has bytes for, so memory stays in proportion."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        push = self._stack.append
        self._instructions: dict[int, Callable[[], None]] = {
            ord("}"): lambda: push({}),
            ord("]"): lambda: push([]),
            ord(")"): lambda: push(()),
            ord("N"): lambda: push(None),
            0x88: lambda: push(True),
            0x89: lambda: push(False),
            ord("("): lambda: self._marks.append(len(self._stack)),
            ord("q"): lambda: self._remember(self._number("<B")),
            ord("r"): lambda: self._remember(self._number("<I")),
            ord("h"): lambda: push(self._memo[self._number("<B")]),
            ord("j"): lambda: push(self._memo[self._number("<I")]),
            ord("X"): lambda: push(self._take(self._number("<I")).decode()),
            ord("K"): lambda: push(self._number("<B")),
            ord("M"): lambda: push(self._number("<H")),
            ord("J"): lambda: push(self._number("<i")),
            ord("G"): lambda: push(self._number(">d")),
            0x8A: lambda: push(int.from_bytes(self._take(self._number("<B")), "little", signed=True)),
            ord("t"): lambda: push(tuple(self._since_mark())),
            0x85: lambda: push((self._stack.pop(),)),
            0x86: lambda: self._tuple(2),
            0x87: lambda: self._tuple(3),
            ord("c"): lambda: push(self._named()),
            ord("Q"): lambda: push(_storage(self._stack.pop())),
            ord("R"): self._called,
            ord("s"): lambda: self._set([self._stack.pop(-2), self._stack.pop()]),
            ord("u"): lambda: self._set(self._since_mark()),
            ord("a"): lambda: self._append([self._stack.pop()]),
            ord("e"): lambda: self._append(self._since_mark()),
        }

    def run(self) -> Any:
        if self._data[:2] != b"\x80\x02":
            raise Unreadable("holds no pickle of torch.save")
        self._at = 2
        data, instructions = self._data, self._instructions
        for _ in range(_MOST_INSTRUCTIONS):
            code = data[self._at]
            self._at += 1
            if code == 0x2E:  # STOP
                (value,) = self._stack
                return value
            instruction = instructions.get(code)
            if instruction is None:
                raise Unreadable(f"holds pickle instruction {bytes([code])!r}, which no recorder writes")
            instruction()
        raise Unreadable(f"holds more than {_MOST_INSTRUCTIONS} pickle instructions")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise IndexError(count)
        self._at += count
        return taken

    def _number(self, kind: str) -> Any:
        (number,) = struct.unpack_from(kind, self._data, self._at)
        self._at += struct.calcsize(kind)
        return number

    def _line(self) -> str:
        end = self._data.index(b"\n", self._at, self._at + _LONGEST_NAME)
        line = self._data[self._at : end].decode("ascii")
        self._at = end + 1
        return line

    def _remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _tuple(self, count: int) -> None:
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise TypeError("not a dict")
        if not all(type(key) in (str, int) for key in pairs[::2]):
            # The hash of a nested tuple may take for ever, or overflow the interpreter's stack.
            raise TypeError("not a key")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise TypeError("not a list")
        target.extend(values)

    def _named(self) -> _Name:
        module, name = self._line(), self._line()
        text = f"{module} {name}"
        if text not in _NAMES:
            raise Unreadable(f"names {text.replace(' ', '.')}, which no recorder writes, and was not loaded")
        return _Name(text)

    def _called(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if function == _Name(_REBUILD):
            self._stack.append(_tensor(*arguments[:4]))
        elif function == _Name(_ORDERED_DICT) and arguments == ():
            self._stack.append({})  # A tensor's hooks: always empty.
        else:
            raise Unreadable("calls something that no recorder calls, and was not loaded")


def _storage(pid: Any) -> _Storage:
    """Of ('storage', type, key, device, items)."""
    kind, name, key, _device, items = pid
    if kind != "storage" or not isinstance(name, _Name) or not isinstance(key, str):
        raise TypeError("not a storage")
    return _Storage(key, _DTYPES[name.text.removeprefix("torch ")], _count(items))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """As torch._utils._rebuild_tensor_v2 would, once it is sure that nothing lies outside of the storage."""
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise TypeError("not a tensor")
    tensor = Tensor(storage.key, storage.dtype, _count(offset), tuple(map(_count, shape)), tuple(map(_count, strides)))
    if tensor.last >= storage.items or math.prod(tensor.shape) > storage.items:
        raise Unreadable(f"has a tensor of shape {tensor.shape} in a storage of {storage.items} numbers")
    return tensor


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise TypeError("not a count")
    return value
