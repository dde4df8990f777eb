"""Class paths that Airflow's database still holds: deferred tasks of an installation from before ``wideloop.*``.

Airflow stores the class path of the trigger that a deferred task waits for, and the triggerer imports it by that path.
Until this project moved below ``wideloop`` the path was ``operators.waiting.TargetTrigger``. A package ``operators``
must not exist for it, as users have packages of this name, so the path is answered by a finder behind all others:

* it answers for ``operators.waiting`` alone, ``import operators`` fails as before;
* whatever else provides the name wins, since it is asked first;
* once the class has been read from the module, both names are removed from ``sys.modules``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE, MODULE = "operators", "operators.waiting"


class StoredPathFinder(MetaPathFinder):
    """Finds ``operators.waiting``, and ``operators`` while that is imported."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname == MODULE or (fullname == PACKAGE and _is_importing(MODULE)):
            return ModuleSpec(fullname, _AliasLoader(), is_package=fullname == PACKAGE)
        return None


class _Alias(ModuleType):
    """A module that gives its one class and then leaves ``sys.modules``."""

    def __getattr__(self, name: str) -> Any:
        if self.__name__ != MODULE or name != "TargetTrigger":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from wideloop.operators.airflow.triggers import TargetTrigger

        _remove_aliases()
        return TargetTrigger


class _AliasLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the class is imported when it is read."""


def install() -> None:
    """Append the finder to ``sys.meta_path``, once per process."""
    if not any(isinstance(finder, StoredPathFinder) for finder in sys.meta_path):
        sys.meta_path.append(StoredPathFinder())


def _is_importing(name: str) -> bool:
    """Whether the import system is at work on ``name``; it imports a parent package without saying for which child.

    Its frames hold the name. Where an interpreter keeps them otherwise, the answer is no and the stored path unknown.
    """
    frame = sys._getframe(2)  # past find_spec
    while frame is not None and frame.f_globals.get("__name__") == "importlib._bootstrap":
        if frame.f_locals.get("name") == name:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _remove_aliases() -> None:
    for name in (MODULE, PACKAGE):
        if isinstance(sys.modules.get(name), _Alias):
            del sys.modules[name]
    # A package of the user's own got the module as an attribute, as every import of a submodule sets one.
    package = sys.modules.get(PACKAGE)
    if package is not None and isinstance(vars(package).get("waiting"), _Alias):
        del package.waiting
