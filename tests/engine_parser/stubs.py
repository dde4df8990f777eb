"""Stand-ins for packages that SGLang imports on its way to its argument parser, which needs nothing of them.

triton alone is 1 GB installed. A module of a stubbed package holds whatever is asked of it; each such thing is a
class, so that it can be called, subclassed, used as a decorator, in ``isinstance`` and in annotations.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence, Set
from typing import Any

PACKAGES = frozenset(
    {
        *("IPython", "PIL", "openai", "orjson", "partial_json_parser", "pybase64", "safetensors", "sentencepiece"),
        *("tokenizers", "torchvision", "transformers", "triton", "xgrammar", "zmq"),
    }
)


class _Anything(type):
    """A class that has every attribute, and whose calls give another one or, as decorators, what they decorate."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return "cpu" if name == "backend" else _anything(name)  # triton's target, taken as an attribute of torch

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and callable(args[0]):
            return args[0]
        return _anything(cls.__name__)

    def __getitem__(cls, _key: object) -> Any:
        return cls

    def __setitem__(cls, _key: object, _value: object) -> None:
        """Registries of classes are not read again."""

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


def _anything(name: str) -> Any:
    members = {
        "__class_validators__": [],
        "__get_pydantic_core_schema__": classmethod(_any_schema),
        "__init_subclass__": classmethod(lambda cls, **_options: None),
    }
    return _Anything(name, (), members)


def _any_schema(_cls: type, *_: object) -> Any:
    from pydantic_core import core_schema

    return core_schema.any_schema()


class _Module(types.ModuleType):
    __path__: Sequence[str] = ()
    __version__ = "3.6.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _anything(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, packages: Set[str]) -> None:
        self._packages = packages

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        if fullname.partition(".")[0] not in self._packages:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


def install(more: Set[str] = frozenset()) -> None:
    """Let the stubbed packages, and ``more`` of them, be found before any that is installed."""
    sys.meta_path.insert(0, _Finder(PACKAGES | more))


def stub(name: str) -> Any:
    """A class that stands for one thing of a module that is not stubbed."""
    return _anything(name)
