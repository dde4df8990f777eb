"""The hook that checks a commit's subject, as git calls it: with the file of the message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wideloop.operators.bootstrap import PROJECT

HOOKS = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]


def commit(message: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "COMMIT_EDITMSG"
    file.write_text(message)
    (entry,) = (hook["entry"] for hook in HOOKS if hook["id"] == "subject")
    command = [sys.executable, *entry.split()[1:], str(file)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("subject", ["x" * 72, "Merge branch 'a' of " + "x" * 80, f"# {'a comment ' * 10}\nShort"])
def test_a_subject_within_the_limit_or_of_gits_own_is_accepted(subject: str, tmp_path: Path) -> None:
    assert commit(f"{subject}\n\n{'A body may be wide. ' * 10}\n", tmp_path).returncode == 0


def test_a_longer_subject_is_refused_with_its_length(tmp_path: Path) -> None:
    done = commit("x" * 73 + "\n", tmp_path)
    assert done.returncode == 1
    assert "73 characters, at most 72" in done.stderr


def test_the_hooks_check_what_make_check_checks() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    recipe = makefile.split("\ncheck:")[1].split("\n\n")[0]
    tools = {Path(hook["entry"].split()[0]).name for hook in HOOKS if hook["id"] != "subject"}
    assert tools == {line.split()[0].split("/")[-1] for line in recipe.splitlines()[1:]}
