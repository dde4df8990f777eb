"""Repeats that a configuration could not bear: evidence against it that no measurement shows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from wideloop.results.artefacts import Artefacts

FOLDER = "failed_repeats"


class FailedRepeat(BaseModel):
    """A repeat whose configuration could not run, so that nothing was measured."""

    model_config = ConfigDict(frozen=True)

    trial_number: int
    repeat: int
    reason: str


def keep_failed_repeat(artefacts: Artefacts, cycle_id: str, failed: FailedRepeat) -> None:
    """Keep it with the cycle; a retry replaces it."""
    name = f"{failed.trial_number}-{failed.repeat}.json"
    artefacts.put_json(failed.model_dump(mode="json"), "cycles", cycle_id, FOLDER, name)


def failed_repeats(artefacts: Artefacts, cycle_id: str) -> list[FailedRepeat]:
    """Those of a cycle, by trial and repeat."""
    documents = (artefacts.read_json(uri) for uri in artefacts.list("cycles", cycle_id, FOLDER))
    return sorted((FailedRepeat.model_validate(d) for d in documents), key=lambda f: (f.trial_number, f.repeat))
