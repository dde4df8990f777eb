"""What import-linter cannot see: modules named in strings, and branches on the name of an engine or a target."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
#: From the lowest to the highest.
_LAYERS = ("manifests", "tuning", "results", "operators", "dags")
_MODULE = re.compile(r"\bwideloop\.(\w+)((?:\.\w+)*)")
_SEAMS = {"engine", "target", "engine_name", "target_name", "client"}


def _trees() -> Iterator[tuple[str, Path, ast.Module]]:
    for layer in _LAYERS:
        for file in sorted((_ROOT / layer).rglob("*.py")):
            yield layer, file, ast.parse(file.read_text())


def _strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every string but docstrings, which may refer to anything."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [n.body for n in ast.walk(tree) if isinstance(n, documented)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


def _upward(layer: str, text: str) -> list[str]:
    above = _LAYERS[_LAYERS.index(layer) + 1 :]
    return [match[0] for match in _MODULE.finditer(text) if match[1] in above]


def test_no_module_names_one_of_a_layer_above_it_in_a_string() -> None:
    upward = [
        f"{file.relative_to(_ROOT)}:{node.lineno}: {name}"
        for layer, file, tree in _trees()
        for node in _strings(tree)
        for name in _upward(layer, node.value)
    ]
    assert upward == []


def test_no_code_branches_on_the_name_of_an_engine_or_a_target() -> None:
    names = [
        f"{file.relative_to(_ROOT)}:{node.lineno}"
        for _, file, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and _is_name_of_a_seam(node.left) and _are_literals(node)
    ]
    assert names == []


def _is_name_of_a_seam(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        of_a_seam = isinstance(node.value, ast.Name) and node.value.id in _SEAMS
        return node.attr in _SEAMS or (node.attr == "name" and of_a_seam)
    return isinstance(node, ast.Name) and node.id in _SEAMS


def _are_literals(node: ast.Compare) -> bool:
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for c in node.comparators for n in ast.walk(c))


@pytest.mark.parametrize("code", ['target == "local"', 'spec.engine in ("sglang", "vllm")', 'engine.name != "sglang"'])
def test_branches_on_a_name_are_recognised(code: str) -> None:
    (compare,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Compare))
    assert _is_name_of_a_seam(compare.left) and _are_literals(compare)
