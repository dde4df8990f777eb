"""Hatch's build hook: where ``wideloop`` itself comes from, in a wheel and in an editable installation.

Only the wheel can rename folders (``operators`` to ``wideloop/operators``). An editable installation puts a folder on
``sys.path``; were that the clone itself, ``import operators`` would hide a user's own package of this name.
"""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RootPackage(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        bootstrap = runpy.run_path(str(Path(self.root) / "operators" / "bootstrap.py"))
        if version == "editable":
            bootstrap["make_links"]()
            return
        for name, source in bootstrap["ROOT_FILES"].items():
            build_data["force_include"][f"operators/packaging/{source}"] = f"wideloop/{name}"
