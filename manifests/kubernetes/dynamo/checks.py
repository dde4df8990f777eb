"""Findings about a deployment that Dynamo's operator or Grove would refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes import checks
from wideloop.manifests.kubernetes.dynamo.names import GROVE_LIMIT, grove_length
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.providers import with_provider

#: An image tag that the operator can read as Dynamo's version.
_SEMANTIC_TAG = re.compile(r":v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.-]+)?(?:@sha256:[0-9a-f]+)?$")


def dynamo_findings(spec: DeploymentSpec, options: ClusterOptions) -> list[Finding]:
    """Errors, which stop a launch, and warnings about probable mistakes."""
    options = with_provider(options, spec)
    return [*_runtime(spec), *_names(spec, options), *_image(options), *checks.cluster_findings(spec, options)]


def _runtime(spec: DeploymentSpec) -> Iterator[Finding]:
    if get_engine(spec.engine).runtime != "dynamo":
        rule = "runs as a server of its own, and this target runs what Dynamo manages"
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
