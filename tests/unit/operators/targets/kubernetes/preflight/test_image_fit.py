"""Images for other CPUs, other versions and other drivers than the nodes' are told before a GPU is taken."""

from __future__ import annotations

import pytest
from wideloop.manifests.engines import get_engine
from wideloop.operators.targets.kubernetes.preflight.image_fit import check_architecture, check_driver
from wideloop.operators.targets.kubernetes.preflight.node_capacity import Node

from tests.unit.manifests.kubernetes.golden_cases import CASES

SPECS = {case.name: case.spec() for case in CASES}


def node(**labels: str) -> Node:
    names = {"arch": "kubernetes.io/arch", "driver": "nvidia.com/cuda.driver.major"}
    named = {names.get(key, key): value for key, value in labels.items()}
    return Node("n", named, (), devices={"nvidia.com/gpu": 8}, gpu="nvidia.com/gpu")


@pytest.mark.parametrize(
    ("case", "image", "nodes", "fields"),
    [
        ("r1-32", {"amd64"}, ["amd64"], []),
        ("r1-32", {"amd64", "arm64"}, ["amd64", "arm64"], []),
        ("r1-gb200", {"amd64", "arm64"}, ["arm64"], []),
        ("r1-gb200", {"amd64"}, ["arm64"], ["engine_image"]),
        ("r1-32", {"arm64"}, ["amd64"], ["engine_image"]),
        ("r1-gb200", {"arm64"}, ["amd64"], ["hardware"]),
        ("r1-32", {"arm64"}, ["arm64"], ["engine_image", "hardware"]),
        ("r1-32", set(), ["amd64"], []),
        ("r1-32", {"amd64"}, [], []),
    ],
)
def test_image_profile_and_nodes_are_of_one_architecture(
    case: str, image: set[str], nodes: list[str], fields: list[str]
) -> None:
    result = check_architecture(frozenset(image), SPECS[case], [node(arch=arch) for arch in nodes])
    assert [f.field for f in result.findings] == fields
    assert result.made is bool(image and nodes)


@pytest.mark.parametrize(
    ("cuda", "drivers", "state"),
    [
        ("13.0", ["580", "580"], "ok"),
        ("13.0", ["580", "570"], "warning"),
        ("12.9", ["570"], "ok"),
        ("12.4", ["515"], "warning"),
        ("", ["450"], "ok"),
        ("13.0", [], "not checked"),
        ("14.1", ["600"], "ok"),
        ("None", ["580"], "ok"),
    ],
)
def test_the_driver_is_as_new_as_the_images_cuda_wants(cuda: str, drivers: list[str], state: str) -> None:
    assert check_driver({"cuda": cuda}, [node(driver=driver) for driver in drivers] or [node()]).state == state


@pytest.mark.parametrize(
    ("installed", "asked", "works"),
    [
        ("0.5.21", "0.5.21", None),
        ("0.5.21.post1", "0.5.21", None),
        ("0.5.21+cu130", "v0.5.21", None),
        ("0.5.23", "0.5.21", "Use 0.5.23"),
        ("0.5.21", "0.5.23", "Use 0.5.21"),
        ("0.5.2", "0.5.21", "Use 0.5.2,"),
        ("?", "0.5.21", None),
    ],
)
def test_the_version_in_the_image_is_the_one_that_flags_are_written_for(
    installed: str, asked: str, works: str | None
) -> None:
    findings = get_engine("dynamo-sglang").image_findings({"sglang": installed}, asked)
    assert [f.severity for f in findings] == (["error"] if works else [])
    assert all(works and works in f.suggestion for f in findings)


def test_an_image_that_was_never_tested_says_nothing_about_its_version() -> None:
    assert get_engine("dynamo-sglang").image_findings({}, "0.5.21") == []
    assert get_engine("simulated").image_findings({"torch": "2.9"}, "0.5.21") == []
