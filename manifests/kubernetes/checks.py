"""Findings about a deployment that follow from the cluster's options, before any request to the cluster."""

from __future__ import annotations

from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.options import ClusterOptions


def cluster_findings(spec: DeploymentSpec, options: ClusterOptions) -> list[Finding]:
    """Errors, which stop a launch, and warnings about probable mistakes."""
    warnings = [*_hub(spec, options), *_nvlink(spec, options)]
    engine = get_engine(spec.engine)
    return warnings + engine.option_findings("engine_options", options.engine_options, spec.engine_version)


def _hub(spec: DeploymentSpec, options: ClusterOptions) -> Iterator[Finding]:
    if not spec.model_path.startswith("/") and options.hf_token_secret is None:
        yield Finding(
            field="hf_token_secret",
            value=None,
            rule=f"pods would download {spec.model_path} themselves, which needs a token where the model is gated",
            suggestion="Fill the cache with wideep_weights, or name a secret with the key HF_TOKEN",
            severity="warning",
        )


def _nvlink(spec: DeploymentSpec, options: ClusterOptions) -> Iterator[Finding]:
    wide = [w.role for w in spec.workers if w.layout.nodes > 1]
    if spec.hardware.fabric == "NVLink" and wide and options.compute_domain_claim is None:
        yield Finding(
            field="compute_domain_claim",
            value=None,
            rule=f"{' and '.join(wide)} span nodes of one NVLink domain, which only pods of a ComputeDomain may use",
            suggestion="Make a ComputeDomain of NVIDIA's DRA driver and name the claim template of its channels",
            severity="warning",
        )
