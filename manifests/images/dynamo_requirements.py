"""Print what an installed ai-dynamo needs for SGLang workers, one requirement a line, for ``pip install -r``.

Run in the image after ``pip install --no-deps ai-dynamo``: the list is the package's own (METADATA, with the extra
``sglang``), so it is complete for every release and commit. Standard library and ``packaging`` only.
"""

from __future__ import annotations

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement

#: Not installed: SGLang is what the image begins with, the runtime is installed beside, and aisimulate is a stub that
#: fetches itself from elsewhere; no worker imports it.
LEFT_OUT = ("sglang", "ai-dynamo-runtime", "aisimulate")
_EXTRAS = ("", "sglang")


def requirements(package: str = "ai-dynamo") -> list[str]:
    """The requirements that apply to this interpreter, without their markers, sorted."""
    wanted = [Requirement(text) for text in requires(package) or ()]
    needed = [one for one in wanted if one.name not in LEFT_OUT and _applies(one)]
    return sorted(f"{one.name}{_extras(one)}{one.specifier}" for one in needed)


def _applies(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in _EXTRAS)


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements()) + "\n")
