"""Which Pod Security level each of the project's pods passes, by the rules of that standard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from wideloop.manifests.engines.base import Command
from wideloop.manifests.hub import hub_model
from wideloop.manifests.kubernetes import model_cache, smoke_test
from wideloop.manifests.kubernetes.dynamo import render
from wideloop.manifests.kubernetes.jobs import client_job, files_pod
from wideloop.manifests.kubernetes.options import ClusterOptions

from tests.unit.manifests.kubernetes.golden_cases import CASES

BY_NAME = {case.name: case for case in CASES}
#: https://kubernetes.io/docs/concepts/security/pod-security-standards
_BASELINE_CAPABILITIES = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
_RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}


def against_baseline(pod: dict[str, Any]) -> Iterator[str]:
    (container,) = pod["containers"]
    context, rights = container["securityContext"], container["securityContext"].get("capabilities", {})
    if context.get("privileged") or pod.get("hostNetwork"):
        yield "privileged or host network"
    if set(rights.get("add", ())) - _BASELINE_CAPABILITIES:
        yield f"capabilities {rights['add']}"
    if any("hostPath" in volume for volume in pod["volumes"]):
        yield "host path"
    if pod["securityContext"]["seccompProfile"]["type"] == "Unconfined":
        yield "seccomp"


def against_restricted(pod: dict[str, Any]) -> Iterator[str]:
    yield from against_baseline(pod)
    (container,) = pod["containers"]
    context = {**pod["securityContext"], **container["securityContext"]}
    if context["allowPrivilegeEscalation"] or context["seccompProfile"]["type"] != "RuntimeDefault":
        yield "escalation or seccomp"
    if not context.get("runAsNonRoot") or context.get("runAsUser") == 0:
        yield "root"
    if context["capabilities"] != {"drop": ["ALL"]}:
        yield f"capabilities {context['capabilities']}"
    if {key for volume in pod["volumes"] for key in volume} - _RESTRICTED_VOLUMES - {"name"}:
        yield "volumes"


def tools(options: ClusterOptions) -> Iterator[dict[str, Any]]:
    """The pods beside engines."""
    yield client_job("d", "bench-1", Command(argv=("true",)), options, "image:1", [])["spec"]["template"]["spec"]
    yield files_pod("d", options, "image:1", {})["spec"]
    source = hub_model("DeepSeek-R1")
    yield model_cache.download_documents(options, source)[1][0]["spec"]["template"]["spec"]
    yield smoke_test.documents(options, "image:1", ["torch"], gpu="nvidia.com/gpu")[0]["spec"]["template"]["spec"]


def engines(case: str, **options: Any) -> dict[str, dict[str, Any]]:
    of_case = BY_NAME[case]
    graph = render(of_case.spec(), of_case.cluster("v1beta1").changed(**options))[0]
    return {c["name"]: c["podTemplate"]["spec"] for c in graph["spec"]["components"]}


def test_pods_beside_the_engines_are_restricted_and_get_no_token() -> None:
    for pod in tools(ClusterOptions()):
        assert not list(against_restricted(pod))
        assert pod["automountServiceAccountToken"] is False


def test_tools_as_root_for_storage_that_wants_it_pass_baseline() -> None:
    for pod in tools(ClusterOptions(tools_user=0)):
        assert not list(against_baseline(pod))
        assert "root" in list(against_restricted(pod))


def test_the_simulated_engine_is_restricted() -> None:
    for pod in engines("simulated-8").values():
        assert not list(against_restricted(pod))


@pytest.mark.parametrize("case", ["small-8", "r1-one-worker"])
def test_engines_on_one_node_pass_baseline_and_lock_no_memory(case: str) -> None:
    for pod in engines(case).values():
        assert not list(against_baseline(pod))
        assert "add" not in pod["containers"][0]["securityContext"]["capabilities"]


def test_engines_on_one_node_are_restricted_where_their_image_takes_a_user() -> None:
    pods = engines("r1-one-worker", worker_user=1000)
    assert not [*against_restricted(pods["worker"])]


@pytest.mark.parametrize("case", ["r1-16", "r1-32", "r1-104", "r1-gb200", "r1-coreweave"])
def test_workers_that_reach_other_nodes_lock_memory_as_root_and_frontends_do_not(case: str) -> None:
    pods = engines(case)
    assert not list(against_baseline(pods["frontend"]))
    assert list(against_baseline(pods["decode"])) == ["capabilities ['IPC_LOCK', 'SYS_PTRACE', 'DAC_OVERRIDE']"]
    assert pods["decode"]["containers"][0]["securityContext"]["runAsUser"] == 0


def test_a_privileged_worker_may_not_forbid_escalation() -> None:
    """The API server refuses both at once."""
    context = engines("r1-32", privileged=True)["decode"]["containers"][0]["securityContext"]
    assert context == {"privileged": True, "runAsUser": 0}


def test_fields_of_ones_own_replace_what_is_rendered() -> None:
    options = {"worker_user": 1000, "worker_security_context": {"runAsGroup": 3000, "readOnlyRootFilesystem": True}}
    context = engines("r1-32", **options)["decode"]["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["readOnlyRootFilesystem"]) == (1000, 3000, True)


def test_workers_on_their_nodes_network_do_not_share_a_node() -> None:
    from wideloop.manifests.errors import Refused

    assert engines("r1-32", host_network=True)["decode"]["hostNetwork"]
    with pytest.raises(Refused, match="host_network"):
        engines("small-8", host_network=True)
