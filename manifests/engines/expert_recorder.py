"""How an engine records which experts are used: an optional capability of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from wideloop.manifests.deployment import WorkerSpec


@dataclass(frozen=True)
class ExpertRecorder:
    """Routes and files of a recorder that counts, for each expert, the tokens that were routed to it.

    Attributes:
        start_path, stop_path, dump_path: HTTP paths on a worker's ``control`` port. Dumping writes the counts to files
            and resets them.
        files: pattern of the files' names, in a folder that the component's ``Site`` names.
    """

    start_path: str
    stop_path: str
    dump_path: str
    files: str

    @property
    def suffix(self) -> str:
        """Last part of the files' names, e.g. ``.pt``."""
        return PurePath(self.files).suffix

    def rank(self, file_name: str) -> int | None:  # noqa: ARG002
        """The rank that wrote a file; None where one file holds the counts of all ranks."""
        return None

    def copies(self, worker: WorkerSpec) -> int:  # noqa: ARG002
        """How often a recording of ``worker`` counts one token."""
        return 1
