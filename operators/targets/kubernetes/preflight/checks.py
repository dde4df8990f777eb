"""The order of the checks, and the table of what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import ApiRefused, Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.demand import Demand, beside
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.preflight.accelerators import check_accelerators
from wideloop.operators.targets.kubernetes.preflight.access import check_access, check_namespace, check_permissions
from wideloop.operators.targets.kubernetes.preflight.admission import check_admission, check_name
from wideloop.operators.targets.kubernetes.preflight.api_groups import api_groups
from wideloop.operators.targets.kubernetes.preflight.check_result import CheckResult, table
from wideloop.operators.targets.kubernetes.preflight.configuration import check_configuration
from wideloop.operators.targets.kubernetes.preflight.image_fit import check_image_fit
from wideloop.operators.targets.kubernetes.preflight.interconnect import check_network
from wideloop.operators.targets.kubernetes.preflight.limits import check_priority, check_quota
from wideloop.operators.targets.kubernetes.preflight.node_capacity import survey
from wideloop.operators.targets.kubernetes.preflight.pod_security import check_pod_security
from wideloop.operators.targets.kubernetes.preflight.queues import check_queues
from wideloop.operators.targets.kubernetes.preflight.sources import check_hub, check_images
from wideloop.operators.targets.kubernetes.preflight.storage import check_classes, check_storage


def preflight(
    api: Api,
    options: ClusterOptions,
    platform: Platform,
    spec: DeploymentSpec,
    generator: LoadGenerator,
    *,
    say: Callable[[str], None] = print,
) -> list[Finding]:
    """All findings about a deployment on this cluster; prints the table of the checks."""
    made = [*run_checks(api, options, platform, spec, generator)]
    say(table(made))
    return [finding for check in made for finding in check.findings]


def run_checks(
    api: Api, options: ClusterOptions, platform: Platform, spec: DeploymentSpec, generator: LoadGenerator
) -> Iterator[CheckResult]:
    """The checks, those first without which others would only repeat the same complaint."""
    access = check_access(api)
    yield access
    if access.state == "error":
        return
    namespace = check_namespace(api, options.namespace)
    yield namespace
    if namespace.state == "error":
        return
    yield check_permissions(api, options, platform.grants)
    yield _profile(spec)
    yield from check_configuration(spec)
    try:
        wanted = platform.demands(spec, options)
        root = platform.render(spec, options)[0]
    except Refused as refused:
        yield CheckResult("rendering", "", refused.findings)
        return
    doubts = tuple(platform.findings(spec, options))
    yield CheckResult("rendering", f"{len(wanted)} components, and every name is short enough", doubts)
    installed = platform.check_installed(api, options)
    if installed is not None:
        yield installed
    yield from _check_platform(api, options, platform, spec)
    exists = False
    if installed is None or installed.state != "error":
        name, exists = check_name(api, root)
        yield name
        if not exists:
            yield check_admission(api, platform, root)
    yield from _allowed("GPUs", lambda: _check_nodes(api, options, spec, wanted))
    yield from _allowed("storage", lambda: check_storage(api, options, spec))
    yield from _allowed("storage classes", lambda: [check_classes(api)])
    if not exists:  # Else it counts in what the quota has used.
        yield from _allowed("quota", lambda: [check_quota(api, options, [*wanted, *beside(options)])])
    yield from _allowed("priority class", lambda: [c for c in (check_priority(api, options),) if c])
    yield from check_images(api, options, spec, generator)
    yield check_hub(api, options, spec)


def _profile(spec: DeploymentSpec) -> CheckResult:
    """The hardware profile in words: its notes say what its name does not."""
    hardware = spec.hardware
    return CheckResult("profile", f"{hardware.title}. {hardware.notes}".strip(" ."))


def _check_platform(
    api: Api, options: ClusterOptions, platform: Platform, spec: DeploymentSpec
) -> Iterator[CheckResult]:
    """The parts beside the root object's kind: operator, orchestrator, queues, networks, rights of pods."""
    groups = api_groups(api)
    if groups is None:
        yield CheckResult("platform", "API groups may not be listed", made=False)
    else:
        yield from platform.check_parts(api, options, spec, groups)
        yield from check_queues(api, options, groups)
        yield from check_network(options, spec, groups)
    yield from _allowed("Pod Security", lambda: check_pod_security(api, options, spec))


def _check_nodes(
    api: Api, options: ClusterOptions, spec: DeploymentSpec, wanted: Sequence[Demand]
) -> list[CheckResult]:
    """What depends on the nodes, which are read once: a cluster may have thousands."""
    capacity = survey(api, options.namespace, spec.name, spec.hardware.gpu.resource)
    on_nodes = check_accelerators(spec, options, wanted, capacity)
    return [*on_nodes, *check_image_fit(api, options, spec, wanted, capacity.nodes)]


def _allowed(name: str, checks: Callable[[], list[CheckResult]]) -> list[CheckResult]:
    """The checks, or one line that this account may not read it; the line of permissions names what is missing."""
    try:
        return checks()
    except ApiRefused as error:
        if error.status != 403:
            raise
        return [CheckResult(name, "may not be looked at", made=False)]
