"""Where a cycle's numbers come from: engine, image, weights, workload, configurations and raw files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel
from wideloop.results.dashboard.trials import TrialRow
from wideloop.results.records import Asset, Cycle, Measurement


class VerifiedAsset(BaseModel):
    """An image or a model cache, and what its last verification says of it. ``verified_at``: None without one."""

    value: str
    detail: str = ""
    verified_at: datetime | None = None


class Provenance(BaseModel):
    """Lists, because a cycle may have measured on more than one image or workload."""

    engines: list[str]
    images: list[VerifiedAsset]
    weights: list[VerifiedAsset]
    workloads: list[str]
    default_fingerprint: str | None
    best_fingerprint: str | None
    measurements: int
    artefacts: list[str]


def assets_of(cycle: Cycle, measurements: Sequence[Measurement], verified: Sequence[Asset]) -> list[Asset]:
    """The assets among ``verified`` that the cycle uses: images that it measured, or its target's; its model's cache.

    An image that was verified again since has another digest, and is not one of an older cycle's.
    """
    images = {m.image for m in measurements}
    model = f"{cycle.target}/{cycle.request.get('model')}"
    return [
        asset
        for asset in verified
        if (asset.kind == "weights" and asset.key == model)
        or (asset.kind == "image" and asset.value in images)
        or (asset.kind == "image" and not images and asset.key == f"{cycle.target}/{cycle.engine}")
    ]


def provenance(
    cycle: Cycle, shown: Sequence[TrialRow], measurements: Sequence[Measurement], assets: Sequence[Asset]
) -> Provenance:
    """Collect it from the cycle's records; ``assets`` as :func:`assets_of` gives them."""
    default = next((row.number for row in shown if row.is_default and row.tok_s_per_gpu is not None), None)
    best = next((row.number for row in shown if row.is_best), None)
    baseline = next((m.spec_fingerprint for m in measurements if m.purpose == "baseline"), None)
    images = {a.value: _described(a) for a in assets if a.kind == "image"}
    measured = {m.image for m in measurements}
    return Provenance(
        engines=sorted({m.engine for m in measurements} or {cycle.engine}),
        images=[images.get(value, VerifiedAsset(value=value)) for value in sorted(measured or images.keys())],
        weights=[_described(a) for a in assets if a.kind == "weights"],
        workloads=sorted({f"ISL {m.isl} / OSL {m.osl} ({m.workload_fingerprint})" for m in measurements}),
        default_fingerprint=_fingerprint(measurements, default) or baseline,
        best_fingerprint=_fingerprint(measurements, best),
        measurements=len(measurements),
        artefacts=sorted({m.artefact for m in measurements if m.artefact}),
    )


def _fingerprint(measurements: Sequence[Measurement], number: int | None) -> str | None:
    """The specification that a trial was last measured with."""
    fingerprints = [m.spec_fingerprint for m in measurements if number is not None and m.trial_number == number]
    return fingerprints[-1] if fingerprints else None


def _described(asset: Asset) -> VerifiedAsset:
    return VerifiedAsset(value=asset.value, detail=_detail(asset), verified_at=asset.verified_at)


def _detail(asset: Asset) -> str:
    if asset.kind == "image":
        return ", ".join(f"{name} {version}" for name, version in asset.detail.get("versions", {}).items())
    if not asset.detail.get("has_weights", True):
        return "configuration only, no weights"
    files, size = asset.detail.get("files"), asset.detail.get("bytes")
    return "" if files is None or size is None else f"{files} files, {size / 1e9:,.1f} GB"
