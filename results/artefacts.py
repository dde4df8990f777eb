"""Files and JSON documents below one root: a folder, or a bucket through an object like ``pathlib.Path``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, Self


class PathLike(Protocol):
    """The methods that a root must have; ``pathlib.Path``, ``upath.UPath`` and ``airflow.sdk.ObjectStoragePath`` do."""

    @property
    def parent(self) -> Self: ...
    def __truediv__(self, key: str, /) -> Self: ...
    def open(self, mode: Literal["rb", "wb"], /) -> Any: ...
    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None: ...
    def iterdir(self) -> Iterator[Self]: ...
    def is_dir(self) -> bool: ...
    def is_file(self) -> bool: ...


class Artefacts:
    """The artefact store. A name is given in parts; writing to a name again replaces its content.

    Example:
        >>> artefacts = Artefacts(Path("/var/lib/wideloop/artefacts"))
        >>> uri = artefacts.put_json({"tokens": 64}, "cycle-7", "trial-0", "summary.json")
        >>> artefacts.read_json(uri)
        {'tokens': 64}
    """

    def __init__(self, root: PathLike) -> None:
        self._root = root

    def put_file(self, local: Path, *parts: str) -> str:
        """Copy ``local`` to ``parts`` and return its URI, which :meth:`get_file` takes.

        Raises:
            ValueError: a part is empty, absolute or leaves the root.
            FileNotFoundError: ``local`` does not exist.
        """
        target = self._at(parts)
        with local.open("rb") as source:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return str(target)

    def put_json(self, document: Any, *parts: str) -> str:
        """Write ``document`` as JSON to ``parts`` and return its URI.

        Raises:
            ValueError: a part leaves the root, or ``document`` holds a NaN or an infinity.
        """
        return self.put_bytes(json.dumps(document, indent=1, allow_nan=False).encode(), *parts)

    def put_bytes(self, content: bytes, *parts: str) -> str:
        """Write ``content`` to ``parts`` and return its URI.

        Raises:
            ValueError: a part is empty, absolute or leaves the root.
        """
        target = self._at(parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as sink:
            sink.write(content)
        return str(target)

    def read_json(self, uri: str) -> Any:
        """The JSON document at ``uri``.

        Raises:
            ValueError: ``uri`` is not below this root, or its content is not JSON.
            FileNotFoundError: there is no file.
        """
        with self._path_of(uri).open("rb") as source:
            return json.loads(source.read())

    def read_bytes(self, *parts: str) -> bytes:
        """The content of the file at ``parts``.

        Raises:
            ValueError: a part is empty, absolute or leaves the root.
            FileNotFoundError: there is no file.
        """
        with self._at(parts).open("rb") as source:
            content: bytes = source.read()
        return content

    def get_file(self, uri: str, local: Path) -> Path:
        """Copy the file at ``uri`` to ``local``, creating its folder, and return ``local``.

        Raises:
            ValueError: ``uri`` is not below this root.
            FileNotFoundError: there is no file at ``uri``.
        """
        with self._path_of(uri).open("rb") as source:
            local.parent.mkdir(parents=True, exist_ok=True)
            with local.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return local

    def list(self, *parts: str) -> list[str]:
        """The URIs of all files below ``parts``, sorted; empty when there is no such folder."""
        top = self._at(parts) if parts else self._root
        return sorted(str(path) for path in _files(top))

    def _at(self, parts: tuple[str, ...]) -> PathLike:
        path = self._root
        for part in parts:
            for name in part.split("/"):
                if name in ("", ".", ".."):
                    raise ValueError(f"artefact name {'/'.join(parts)!r}: {name!r} is not a name inside the store")
                path = path / name
        return path

    def _path_of(self, uri: str) -> PathLike:
        root = str(self._root).rstrip("/") + "/"
        if not uri.startswith(root):
            raise ValueError(f"artefact {uri!r} is not below {root!r}")
        return self._at((uri[len(root) :],))


def _files(top: PathLike) -> Iterator[PathLike]:
    if top.is_file():
        yield top
    elif top.is_dir():
        for child in top.iterdir():
            yield from _files(child)
