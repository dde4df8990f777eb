"""Which images can be "pulled" here, and which programs a container of each finds first on its PATH."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CannotPull(Exception):
    """The text is what a kubelet says of an image that is not there."""


class Images:
    """Images by a word their names contain: ``{"simulated": folder of programs or None}``."""

    def __init__(self, known: Mapping[str, Path | None]) -> None:
        self.known = dict(known)

    def path(self, image: str) -> str:
        """``PATH`` of a container of ``image``.

        Raises:
            CannotPull: no known word is in its name.
        """
        name = image.partition("@")[0]
        for word, folder in self.known.items():
            if word in name:
                return f"{folder}:{_SYSTEM}" if folder else _SYSTEM
        raise CannotPull(f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": not found')


def image_id(image: str) -> str:
    """``repository@digest``: the digest the reference names, or one made from the reference."""
    name, _, digest = image.partition("@")
    head, colon, tail = name.rpartition(":")
    repository = head if colon and "/" not in tail else name
    return f"{repository}@{digest or 'sha256:' + hashlib.sha256(image.encode()).hexdigest()}"
