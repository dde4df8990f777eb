"""Proofs that a cycle kept by themselves, because it compared nothing else with them."""

from __future__ import annotations

from collections.abc import Mapping

from wideloop.results.artefacts import Artefacts
from wideloop.results.experts.comparison import Proof

DOCUMENT = "proof.json"


def keep_proofs(artefacts: Artefacts, cycle_id: str, proofs: Mapping[str, Proof]) -> None:
    """Keep ``proofs``, by role."""
    document = {role: proof.model_dump(mode="json") for role, proof in proofs.items()}
    artefacts.put_json(document, "cycles", cycle_id, "experts", DOCUMENT)


def kept_proofs(artefacts: Artefacts, cycle_id: str) -> dict[str, Proof]:
    """By role; empty when none were kept. Earlier versions kept them at the top level of the cycle's folder.

    Raises:
        ValidationError: another version wrote something else.
    """
    for parts in (("experts", DOCUMENT), (DOCUMENT,)):
        for uri in artefacts.list("cycles", cycle_id, *parts):
            return {role: Proof.model_validate(document) for role, document in artefacts.read_json(uri).items()}
    return {}
