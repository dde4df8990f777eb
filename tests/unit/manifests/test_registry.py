from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from wideloop.manifests.errors import Refused
from wideloop.manifests.registry import Registry, installed_entry_points


def registry(group: str = "wideloop.nothing") -> Registry[object]:
    return Registry("shape", group, {"path": "pathlib:PurePosixPath", "missing": "no.such.module:Class"})


def test_what_ships_is_imported_only_when_it_is_asked_for() -> None:
    shapes = registry()
    assert shapes.names() == ("missing", "path")
    assert shapes.load("path") is PurePosixPath
    with pytest.raises(ModuleNotFoundError):
        shapes.load("missing")


def test_a_registered_class_takes_precedence_over_one_that_ships() -> None:
    shapes = registry()

    @shapes.register("path")
    class Other: ...

    assert shapes.load("path") is Other
    assert shapes.names() == ("missing", "path")


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(Refused, match=r"shape = 'pth': is not known. Did you mean 'path'"):
        registry().load("pth")


def test_another_package_offers_its_own_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_shapes.py").write_text("class Circle: ...\n")
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[example.shapes]\ncircle = their_shapes:Circle\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed_entry_points.cache_clear()
    shapes = registry("example.shapes")
    try:
        assert shapes.names() == ("circle", "missing", "path")
        assert shapes.load("circle").__name__ == "Circle"
    finally:
        installed_entry_points.cache_clear()
