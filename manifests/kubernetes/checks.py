"""What these options forbid about a deployment: said before anything reaches the API server."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine, sglang_outdated
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.naming import GROVE_LIMIT, grove_length
from wideloop.manifests.kubernetes.options import ClusterOptions

#: A tag that the operator reads as Dynamo's version.
_SEMANTIC_TAG = re.compile(r":v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.-]+)?(?:@sha256:[0-9a-f]+)?$")


def findings(spec: DeploymentSpec, options: ClusterOptions) -> list[Finding]:
    """Errors stop a launch; warnings say what is probably not meant."""
    found = [*_runtime(spec), *_names(spec, options), *_image(options), *_hub(spec, options), *_nvlink(spec, options)]
    return found + sglang_outdated.findings("engine_options", options.engine_options, spec.engine_version)


def _runtime(spec: DeploymentSpec) -> Iterator[Finding]:
    if get_engine(spec.engine).runtime != "dynamo":
        rule = "runs as a server of its own, and Kubernetes here runs what Dynamo manages"
        yield Finding(field="engine", value=spec.engine, rule=rule, suggestion=f"Use 'dynamo-{spec.engine}'")


def _names(spec: DeploymentSpec, options: ClusterOptions) -> Iterator[Finding]:
    length = grove_length(spec)
    if options.grove and length > GROVE_LIMIT:
        yield Finding(
            field="name",
            value=spec.name,
            rule=f"Grove's names of its pods would have {length} characters, {GROVE_LIMIT} are allowed",
            suggestion=f"Use a name of at most {len(spec.name) + GROVE_LIMIT - length} characters",
        )


def _image(options: ClusterOptions) -> Iterator[Finding]:
    if options.engine_runtime_version or options.api_version != "v1beta1" or _SEMANTIC_TAG.search(options.engine_image):
        return
    yield Finding(
        field="engine_image",
        value=options.engine_image,
        rule="its tag is no version, so the operator cannot tell which Dynamo it holds and refuses it",
        suggestion="Set engine_runtime_version, e.g. 1.6.1",
    )


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
