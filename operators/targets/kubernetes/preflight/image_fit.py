"""Whether the engine's image is for these nodes and for the version that the command lines are written for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import ApiRefused, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.demand import Demand
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.smoke_test import CUDA
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.image import registry
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult
from wideloop.operators.targets.kubernetes.preflight.node_capacity import Node
from wideloop.operators.targets.kubernetes.verified_images import VerifiedImages

_ARCH = "kubernetes.io/arch"
#: GPU feature discovery's labels of the driver: the newer and the older name of its major version.
_DRIVERS = ("nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver.major")
#: Oldest driver for a major version of CUDA: CUDA 13 wants R580, CUDA 12 R525
#: (https://docs.nvidia.com/cuda/cuda-toolkit-release-notes, table "minimum required driver").
_OLDEST_DRIVER = {"12": 525, "13": 580}


def check_image_fit(
    api: Api, options: ClusterOptions, spec: DeploymentSpec, demands: Sequence[Demand], nodes: Sequence[Node]
) -> list[CheckResult]:
    """The architecture of image and nodes, the engine's version, and the nodes' driver."""
    engine = get_engine(spec.engine)
    if engine.simulated:
        return []
    record = _record(api, options, spec)
    chosen = [n for n in nodes if any(d.devices() and n.takes(d) for d in demands)] or list(nodes)
    checks = [check_architecture(_architectures(api, options, spec), spec, chosen), check_driver(record, chosen)]
    if engine.version_module:
        findings = tuple(engine.image_findings(record, spec.engine_version))
        installed = record.get(engine.version_module)
        text = (
            f"the image has {engine.version_module} {installed}" if installed else "the image was not smoke-tested yet"
        )
        checks.append(CheckResult("engine version", text, findings, made=bool(installed)))
    return checks


def _record(api: Api, options: ClusterOptions, spec: DeploymentSpec) -> dict[str, str]:
    try:
        return VerifiedImages(api, options.namespace).record(spec.image)
    except ApiRefused as error:
        if error.status != 403:
            raise
        return {}


def _architectures(api: Api, options: ClusterOptions, spec: DeploymentSpec) -> frozenset[str]:
    """Of the engine's image; empty where no registry tells, which another check reports."""
    try:
        return registry(api, options).architectures(options.image(spec.image))
    except TargetError:
        return frozenset()


def check_architecture(of_image: frozenset[str], spec: DeploymentSpec, nodes: Sequence[Node]) -> CheckResult:
    """Whether the image runs on the profile's CPUs and on the CPUs of the nodes that workers may go to.

    A wrong one is only seen on a taken node otherwise, as "exec format error".
    """
    name, wanted = "architecture", spec.hardware.gpu.arch
    of_nodes = {n.labels[_ARCH] for n in nodes if _ARCH in n.labels}
    findings = []
    if of_image and wanted not in of_image:
        rule = f"is for {_joined(of_image)}, and hosts of {spec.hardware.gpu.name} are {wanted}"
        action = f"Give an image for {wanted}, or build one: BUILD=true and BUILD_ARCH={wanted}"
        findings.append(Finding(field="engine_image", value=spec.image, rule=rule, suggestion=action))
    if of_nodes and wanted not in of_nodes:
        rule = f"has hosts of {wanted}, and the GPU nodes are {_joined(of_nodes)}"
        action = "Choose the profile of the GPUs that are there, or select other nodes by gpu_node_selector"
        findings.append(Finding(field="hardware", value=spec.hardware.name, rule=rule, suggestion=action))
    text = f"image: {_joined(of_image) or 'unknown'}; GPU nodes: {_joined(of_nodes) or 'unknown'}"
    return CheckResult(name, text, tuple(findings), made=bool(of_image and of_nodes))


def check_driver(record: dict[str, str], nodes: Sequence[Node]) -> CheckResult:
    """The nodes' driver against the CUDA version of the image, as far as labels and smoke test tell both."""
    name = "GPU driver"
    majors = sorted({int(text) for n in nodes if (text := _driver(n)).isdigit()})
    if not majors:
        return CheckResult(name, f"nodes have no label {_DRIVERS[0]}", made=False)
    cuda = record.get(CUDA, "")
    oldest = _OLDEST_DRIVER.get(cuda.partition(".")[0], 0)
    text = f"R{_joined(f'{major}' for major in majors)}" + (f"; the image has CUDA {cuda}" if cuda else "")
    if majors[0] >= oldest:
        return CheckResult(name, text)
    rule = f"of some GPU nodes is R{majors[0]}, and CUDA {cuda} of the image wants R{oldest} or later"
    action = "Update the driver of these nodes, select others by gpu_node_selector, or use an image for an older CUDA"
    finding = Finding(field="driver", value=f"R{majors[0]}", rule=rule, suggestion=action, severity="warning")
    return CheckResult(name, text, (finding,))


def _driver(node: Node) -> str:
    return next((node.labels[key] for key in _DRIVERS if key in node.labels), "")


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
