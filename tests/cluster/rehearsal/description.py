"""What a container of the image knows of it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

#: Names the file with the description.
VARIABLE = "WIDELOOP_REHEARSAL"


@dataclass(frozen=True)
class Description:
    """A file in the image.

    Attributes:
        sglang: the version that the image states.
        parser: host and port of the parsers of that version.
        packages: folders to append to ``sys.path`` for an import of SGLang.
    """

    sglang: str
    parser: tuple[str, int]
    packages: tuple[str, ...]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def of_this_container(cls) -> Description:
        values = json.loads(Path(os.environ[VARIABLE]).read_text())
        host, port = values["parser"]
        return cls(values["sglang"], (host, port), tuple(values["packages"]))
