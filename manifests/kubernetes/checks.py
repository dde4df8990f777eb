"""Findings about a deployment that follow from the cluster's options, before any request to the cluster."""

from __future__ import annotations

from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.compute_domain import channel_template, spans_nvlink
from wideloop.manifests.kubernetes.options import ClusterOptions


def cluster_findings(spec: DeploymentSpec, options: ClusterOptions) -> list[Finding]:
    """Errors, which stop a launch, and warnings about probable mistakes."""
    findings = [*_hub(spec, options), *_nvlink(spec, options), *_host_network(spec, options)]
    engine = get_engine(spec.engine)
    return findings + engine.option_findings("engine_options", options.engine_options, spec)


def _hub(spec: DeploymentSpec, options: ClusterOptions) -> Iterator[Finding]:
    # A hub id has a slash; without one it is only not known yet where the model is.
    if "/" in spec.model_path and not spec.model_path.startswith("/") and options.hf_token_secret is None:
        yield Finding(
            field="hf_token_secret",
            value=None,
            rule=f"pods would download {spec.model_path} themselves, which needs a token where the model is gated",
            suggestion="Fill the cache with wideep_weights, or name a secret with the key HF_TOKEN",
            severity="warning",
        )


def _nvlink(spec: DeploymentSpec, options: ClusterOptions) -> Iterator[Finding]:
    wide = [w.role for w in spec.workers if spans_nvlink(spec, w)]
    if wide and not get_engine(spec.engine).simulated and channel_template(spec, options) is None:
        yield Finding(
            field="compute_domain",
            value=False,
            rule=f"{' and '.join(wide)} span nodes of one NVLink domain, which only pods of a ComputeDomain may use, "
            "unless the nodes' IMEX daemons are joined by other means",
            suggestion="Leave compute_domain at true where NVIDIA's DRA driver is installed",
            severity="warning",
        )


def _host_network(spec: DeploymentSpec, options: ClusterOptions) -> Iterator[Finding]:
    """Workers that share a node would listen on the same ports of it."""
    pods = sum(w.replicas * w.layout.nodes for w in spec.workers)
    if options.host_network and pods > spec.hardware.nodes:
        yield Finding(
            field="host_network",
            value=True,
            rule=f"{pods} pods of workers go to {spec.hardware.nodes} nodes, and those on one node want the same ports",
            suggestion="Set host_network to false, or use a profile with a node for each pod",
        )
