from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath
from wideloop.results.artefacts import Artefacts, PathLike


@pytest.fixture(params=["pathlib", "memory", "airflow"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> PathLike:
    if request.param == "pathlib":
        return tmp_path / "store"
    if request.param == "memory":
        return UPath(f"memory://{tmp_path.name}/store")
    from airflow.sdk import ObjectStoragePath  # slow to import, and only this case needs it

    return ObjectStoragePath(f"file://{tmp_path}/store")


def test_a_file_comes_back_byte_for_byte(root: PathLike, tmp_path: Path) -> None:
    source = tmp_path / "recording.pt"
    source.write_bytes(bytes(range(256)) * 40)
    artefacts = Artefacts(root)
    uri = artefacts.put_file(source, "cycle 1", "experts", "decode.pt")
    assert Artefacts(root).get_file(uri, tmp_path / "new" / "back.pt").read_bytes() == source.read_bytes()


def test_json_is_replaced_and_listed(root: PathLike) -> None:
    artefacts = Artefacts(root)
    assert artefacts.list() == []
    uri = artefacts.put_json({"a": 1}, "cycle", "trial-0", "x.json")
    assert artefacts.put_json({"a": 2}, "cycle", "trial-0/x.json") == uri
    other = artefacts.put_json([], "cycle", "trial-1", "x.json")
    assert artefacts.read_json(uri) == {"a": 2}
    assert artefacts.list("cycle") == artefacts.list() == [uri, other]
    assert artefacts.list("cycle", "trial-1") == [other]
    assert artefacts.list("nothing") == []


@pytest.mark.parametrize("parts", [("..", "x"), ("a", "../../x"), ("/etc", "x"), ("",)])
def test_names_stay_inside_the_root(root: PathLike, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="inside the store"):
        Artefacts(root).put_json({}, *parts)


def test_a_foreign_uri_is_refused(root: PathLike, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not below"):
        Artefacts(root).get_file("/etc/passwd", tmp_path / "x")
    with pytest.raises(ValueError, match="inside the store"):
        Artefacts(root).read_json(f"{root}/../x.json")


def test_what_is_missing_is_not_found(root: PathLike, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Artefacts(root).read_json(f"{root}/no.json")
    with pytest.raises(FileNotFoundError):
        Artefacts(root).put_file(tmp_path / "no", "x")


def test_json_without_a_standard_meaning_is_refused(root: PathLike) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Artefacts(root).put_json({"x": float("nan")}, "x.json")
    assert Artefacts(root).list() == []
