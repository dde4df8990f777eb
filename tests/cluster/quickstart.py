"""README's commands for Kubernetes, taken from its text and run word for word in one shell."""

from __future__ import annotations

import re
import subprocess
import tempfile
import textwrap
from pathlib import Path

from wideloop.operators.bootstrap import PROJECT

_HEADING = "### On Kubernetes"
_BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[str]:
    """The fenced shell blocks of README's section, in order.

    Raises:
        ValueError: the section is not there.
    """
    text = (PROJECT / "README.md").read_text()
    section = text[text.index(_HEADING) :].split("\n### ", 1)[0]
    return [textwrap.dedent(match[2]) for match in _BLOCK.finditer(section)]


class Shell:
    """A shell whose variables live from one block to the next, as those of a reader who pastes them.

    Attributes:
        variables: its environment now.
    """

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = dict(variables)

    def run(self, block: str, timeout_s: float = 300) -> str:
        """What ``block`` printed.

        Raises:
            AssertionError: a command of it failed; the text has both outputs.
        """
        with tempfile.NamedTemporaryFile() as after:
            script = f"set -euo pipefail\n{block}\nenv -0 > {after.name}\n"
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=PROJECT,
                env=self.variables,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
            assert done.returncode == 0, f"status {done.returncode} of\n{block}\n{done.stdout}\n{done.stderr}"
            pairs = Path(after.name).read_text().split("\0")
        self.variables = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        return done.stdout
