"""Implementations of an interface by name, each imported when it is first used.

An implementation is found in one of three places: what this process registered by the decorator, what this project
ships (a table ``name -> "module:Class"``, so that an image without package metadata finds it), and what other
installed packages offer as entry points of the registry's group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Generic, TypeVar, cast

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown

Interface = TypeVar("Interface")
Class = TypeVar("Class", bound=type)


class Registry(Generic[Interface]):
    """The implementations of one interface.

    Attributes:
        kind: word for an implementation in messages and name of the field that selects it, e.g. ``engine``.
        group: entry-point group in which other packages offer theirs, e.g. ``wideloop.engines``.
        registered: classes that this process registered, by name; they take precedence over all others.
        lazy: ``"module:Class"`` by name: what this project ships, imported on first use.

    Example:
        >>> shapes: Registry[object] = Registry("shape", "example.shapes", {"path": "pathlib:PurePosixPath"})
        >>> @shapes.register("square")
        ... class Square: ...
        >>> shapes.names()
        ('path', 'square')
        >>> shapes.load("path").__name__
        'PurePosixPath'
    """

    def __init__(self, kind: str, group: str, shipped: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self.registered: dict[str, type[Interface]] = {}
        self.lazy = dict(shipped)

    def register(self, name: str) -> Callable[[Class], Class]:
        """Class decorator that makes the class available under ``name``."""

        def decorate(implementation: Class) -> Class:
            self.registered[name] = implementation
            return implementation

        return decorate

    def register_lazily(self, name: str, implementation: str) -> None:
        """Make ``"module:Class"`` available under ``name``: for a layer above the one that has the registry."""
        self.lazy[name] = implementation

    def names(self) -> tuple[str, ...]:
        """Every name that :meth:`load` takes, sorted."""
        return tuple(sorted({*self.registered, *self.lazy, *self._offered}))

    def load(self, name: str) -> type[Interface]:
        """The class registered as ``name``.

        Raises:
            Refused: unknown name.
        """
        if name in self.registered:
            return self.registered[name]
        if name in self.lazy:
            module, _, attribute = self.lazy[name].partition(":")
            implementation: type[Interface] = getattr(import_module(module), attribute)
            return implementation
        if name in self._offered:
            offered: type[Interface] = self._offered[name].load()
            return offered
        raise Refused([unknown(self.kind, name, self.names())])

    @property
    def _offered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in installed_entry_points().select(group=self.group)}


@cache
def installed_entry_points() -> EntryPoints:
    """The entry points of all installed packages; reading them takes tens of milliseconds, so once per process."""
    return cast(EntryPoints, entry_points())  # Python 3.11 names the type differently
