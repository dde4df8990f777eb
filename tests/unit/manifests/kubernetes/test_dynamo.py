"""What must hold of every rendered deployment, whatever its shape, and what is refused."""

import json
import re

import pytest
from wideloop.manifests.deployment import MAX_NAME, DeploymentSpec, Knobs
from wideloop.manifests.errors import Refused
from wideloop.manifests.kubernetes.dynamo import checks, render
from wideloop.manifests.kubernetes.dynamo.names import GROVE_LIMIT, frontend_service, grove_length
from wideloop.manifests.kubernetes.labels import SPEC_KEY, is_ours, owner_annotations
from wideloop.manifests.kubernetes.options import ClusterOptions

from tests.unit.manifests.kubernetes.golden_cases import CASES, DIGEST, PLACEMENT

BY_NAME = {case.name: case for case in CASES}
R1 = BY_NAME["r1-16"]
SIMULATED = BY_NAME["simulated-8"]
#: What survives being joined to one line for a shell, as the operator does for ranks it numbers there.
PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+|\$\((POD_IP|POD_NAME)\)|/[A-Za-z0-9_./-]+\$\(POD_NAME\)")


def components(case, version="v1beta1"):
    graph, *_ = case.documents(version)
    return {c["name"]: c for c in graph["spec"]["components"]}


def main_of(component):
    (container,) = component["podTemplate"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_shape_asks_for_the_gpus_of_its_layout(case):
    spec = case.spec()
    found = components(case)
    assert set(found) == {"frontend", *("worker" if w.role == "aggregated" else w.role for w in spec.workers)}
    gpus = 0
    for component in found.values():
        limits = main_of(component)["resources"].get("limits", {})
        nodes = component.get("multinode", {}).get("nodeCount", 1)
        gpus += int(limits.get("nvidia.com/gpu", 0)) * nodes * component["replicas"]
    assert gpus == spec.gpus
    assert "nvidia.com/gpu" not in str(main_of(found["frontend"])["resources"])


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_ranks_are_the_operators_and_arguments_survive_its_shell(case):
    for component in components(case).values():
        main = main_of(component)
        assert main["command"][:2] == ["python3", "-m"] and len(main["command"]) == 3
        assert not {"--dist-init-addr", "--nnodes", "--node-rank"} & set(main["args"])
        for argument in main["args"]:
            assert PLAIN.fullmatch(argument), argument


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_variables_are_defined_before_they_are_used(case):
    for component in components(case).values():
        main = main_of(component)
        names = [v["name"] for v in main["env"]]
        assert len(set(names)) == len(names)
        assert names[:2] == ["POD_NAME", "POD_IP"]
        # Kubernetes fills a variable into later ones only, and Dynamo's operator sorts them all by name.
        defined: set[str] = set()
        for variable in sorted(main["env"], key=lambda v: v["name"]):
            used = set(re.findall(r"\$\((\w+)\)", variable.get("value", "")))
            assert used <= defined, f"{variable['name']} uses {used - defined} before it is there"
            defined.add(variable["name"])


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_mount_has_its_volume_and_the_image_is_pinned(case):
    for component in components(case).values():
        pod, main = component["podTemplate"]["spec"], main_of(component)
        assert {m["name"] for m in main["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert main["image"].endswith(f"@{DIGEST}")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_both_versions_say_the_same(case):
    new, (old, old_config, *_) = components(case), case.documents("v1alpha1")
    assert old_config["data"] == case.documents("v1beta1")[1]["data"]
    assert list(old["spec"]["services"]) == list(new)
    for name, service in old["spec"]["services"].items():
        main, before = main_of(new[name]), service["extraPodSpec"]["mainContainer"]
        assert [before[key] for key in ("image", "command", "args", "env")] == [
            main[key] for key in ("image", "command", "args", "env")
        ]
        assert service.get("multinode") == new[name].get("multinode")
        assert service["extraPodSpec"]["volumes"] == new[name]["podTemplate"]["spec"]["volumes"]
        assert service["resources"].get("claims") == main["resources"].get("claims")
        gpus = service["resources"].get("limits", {}).get("gpu")
        assert gpus == main["resources"].get("limits", {}).get("nvidia.com/gpu")


def test_a_worker_has_two_hours_to_load():
    for name in ("prefill", "decode"):
        probe = main_of(components(R1)[name])["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 7200


def test_the_config_map_gives_the_spec_back_and_pods_see_the_placements():
    case = BY_NAME["every-option"]
    _, config = case.documents("v1beta1")
    assert DeploymentSpec.model_validate_json(config["data"][SPEC_KEY]) == case.spec()
    inside = json.loads(config["data"]["worker-spec.json"])
    paths = [w["knobs"]["expert_placement"] for w in inside["workers"]]
    assert paths == ["/wideloop/config/placement-prefill.json", "/wideloop/config/placement-decode.json"]
    assert config["data"]["placement-decode.json"] == PLACEMENT.read_text()
    args = main_of(components(case)["decode"])["args"]
    assert args[args.index("--init-expert-location") + 1] == paths[1]


def test_another_placement_replaces_the_pods(tmp_path):
    case = BY_NAME["every-option"]
    spec = case.spec()
    moved = tmp_path / "moved.json"
    moved.write_text('{"physical_to_logical_map": [[1, 0]]}')
    knobs = {w.role: w.knobs.model_copy(update={"expert_placement": str(moved)}) for w in spec.workers}
    other = render(spec.with_knobs(spec.name, knobs), case.cluster("v1beta1"))[0]
    ours = case.documents("v1beta1")[0]
    digests = [
        d["spec"]["components"][0]["podTemplate"]["metadata"]["annotations"]["wideloop/config-digest"]
        for d in (ours, other)
    ]
    assert digests[0] != digests[1]


def test_everything_is_ours_and_says_whose_it_is():
    owner = owner_annotations("wideep_cycle", "manual__2026", "2026-11-22T00:00:00+00:00")
    for document in render(R1.spec(), R1.cluster("v1beta1"), owner):
        assert is_ours(document)
        assert document["metadata"]["annotations"].items() >= owner.items()
    for component in components(R1).values():
        assert is_ours(component["podTemplate"])


def test_a_model_in_the_cache_is_mounted_read_only_and_needs_no_token():
    main = main_of(components(R1)["decode"])
    assert {"name": "model", "mountPath": "/model-cache", "readOnly": True} in main["volumeMounts"]
    assert not {"HF_TOKEN", "HF_HOME"} & {v["name"] for v in main["env"]}


def test_simulated_workers_take_no_rights_of_the_kernel():
    assert main_of(components(SIMULATED)["decode"])["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    added = main_of(components(R1)["decode"])["securityContext"]["capabilities"]["add"]
    assert added == ["IPC_LOCK", "SYS_PTRACE", "DAC_OVERRIDE"]


def test_the_longest_name_still_fits_grove():
    spec = BY_NAME["r1-32"].spec().model_copy(update={"name": "n" * MAX_NAME})
    assert grove_length(spec) == GROVE_LIMIT
    render(spec, ClusterOptions())
    too_long = spec.model_copy(update={"name": "n" * (MAX_NAME + 1)})
    with pytest.raises(Refused, match="at most 27 characters"):
        render(too_long, ClusterOptions())
    assert "name" not in {f.field for f in checks.dynamo_findings(too_long, ClusterOptions(grove=False))}
    assert frontend_service("r1") == "r1-frontend"


@pytest.mark.parametrize("tag", ["main", "latest", "dynamo-wideep"])
def test_an_image_whose_tag_is_no_version_needs_one(tag):
    options = ClusterOptions(engine_image=f"registry.example:5000/x:{tag}")
    with pytest.raises(Refused, match="engine_runtime_version"):
        render(R1.spec(), options)
    graph, _ = render(R1.spec(), options.model_copy(update={"engine_runtime_version": "1.6.1"}))
    assert {c["runtimeVersionOverride"] for c in graph["spec"]["components"]} == {"1.6.1"}


def test_a_placement_that_cannot_be_read_is_refused(tmp_path):
    spec = R1.spec()
    for content in (None, b"\x80\x04pickle"):
        file = tmp_path / "placement.pt"
        if content:
            file.write_bytes(content)
        placed = spec.with_knobs(spec.name, {"decode": Knobs(eplb="static", expert_placement=str(file))})
        with pytest.raises(Refused, match=r"decode\.expert_placement"):
            render(placed, R1.cluster("v1beta1"))


def test_placements_too_large_for_a_config_map_are_refused(tmp_path):
    file = tmp_path / "placement.json"
    file.write_text("1" * 1024 * 1024)
    spec = R1.spec()
    placed = spec.with_knobs(spec.name, {"decode": Knobs(eplb="static", expert_placement=str(file))})
    with pytest.raises(Refused, match="a ConfigMap takes 1048576"):
        render(placed, R1.cluster("v1beta1"))


def test_workers_across_an_nvlink_domain_without_a_compute_domain_are_warned_of():
    spec = BY_NAME["r1-gb200"].spec()
    without = checks.dynamo_findings(spec, ClusterOptions(compute_domain=False))
    assert [(f.field, f.severity) for f in without] == [("compute_domain", "warning")]
    assert checks.dynamo_findings(spec, ClusterOptions()) == []


@pytest.mark.parametrize("case", ["r1-gb200", "r1-dgx-gb200"])
def test_workers_across_an_nvlink_domain_claim_a_channel_of_a_domain_of_their_own(case):
    *_, domain = BY_NAME[case].documents("v1beta1")
    template = domain["spec"]["channel"]["resourceClaimTemplate"]["name"]
    assert domain["kind"] == "ComputeDomain" and is_ours(domain)
    found = components(BY_NAME[case])
    for role in ("prefill", "decode"):
        pod = found[role]["podTemplate"]["spec"]
        assert pod["resourceClaims"] == [{"name": "compute-domain", "resourceClaimTemplateName": template}]
        assert main_of(found[role])["resources"]["claims"] == [{"name": "compute-domain"}]
    assert "resourceClaims" not in found["frontend"]["podTemplate"]["spec"]


def test_an_existing_domain_is_claimed_instead_of_a_new_one():
    case = BY_NAME["r1-gb200"]
    graph, config = render(case.spec(), ClusterOptions(compute_domain_claim="shared-channel"))
    assert config["kind"] == "ConfigMap"
    pod = graph["spec"]["components"][1]["podTemplate"]["spec"]
    assert pod["resourceClaims"][0]["resourceClaimTemplateName"] == "shared-channel"


@pytest.mark.parametrize("role", ["frontend", "prefill", "decode"])
def test_pods_of_an_arm_image_go_to_arm_nodes(role):
    pod = components(BY_NAME["r1-gb200"])[role]["podTemplate"]["spec"]
    assert pod["nodeSelector"]["kubernetes.io/arch"] == "arm64"
    assert {"key": "kubernetes.io/arch", "operator": "Equal", "value": "arm64", "effect": "NoSchedule"} in pod[
        "tolerations"
    ]
    assert "nodeSelector" not in components(BY_NAME["r1-32"])[role]["podTemplate"]["spec"]


def test_a_server_of_its_own_does_not_run_under_dynamo():
    spec = R1.spec().model_copy(update={"engine": "sglang"})
    with pytest.raises(Refused, match="Use 'dynamo-sglang'"):
        render(spec, R1.cluster("v1beta1"))


@pytest.mark.parametrize(
    ("flags", "works"),
    [
        (("--cuda-graph-bs", "128"), "--cuda-graph-bs-decode"),
        (("--enable-deepep-moe",), "deepep_mode"),
        (("--prefill-round-robin-balance",), "--load-balance-method round_robin"),
        (("--node-rank=1",), "Leave it out"),
    ],
)
def test_flags_of_older_recipes_are_refused_with_what_says_the_same_now(flags, works):
    with pytest.raises(Refused, match=works):
        render(R1.spec(), ClusterOptions(engine_options=flags))


def test_a_flag_that_the_version_still_has_passes():
    render(R1.spec("0.5.17"), ClusterOptions(engine_options=("--cuda-graph-bs", "128")))


def test_kernels_are_kept_by_image():
    def cache(image, **options):
        spec = R1.spec().model_copy(update={"image": image})
        graph, _ = render(spec, ClusterOptions(**options))
        (main,) = graph["spec"]["components"][-1]["podTemplate"]["spec"]["containers"]
        return {v["name"]: v.get("value") for v in main["env"]}.get("TRITON_CACHE_DIR")

    assert cache(DIGEST) == cache(DIGEST)
    assert cache(DIGEST) != cache(DIGEST.replace("0", "1"))
    assert cache(DIGEST, kernel_cache=False) is None
