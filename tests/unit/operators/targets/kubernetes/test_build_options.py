"""What one run wants otherwise about the build of an image."""

from __future__ import annotations

import pytest
from wideloop.manifests.errors import Refused
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import RunOptions
from wideloop.operators.targets.base import ImageBuild
from wideloop.operators.targets.kubernetes.image import build_options

_SETTINGS = ClusterOptions(build=True, build_args={"DYNAMO_REF": "1.6.1", "MAX_JOBS": "2"}, build_cpu="4")


def test_the_form_goes_before_the_settings_and_leaves_the_rest() -> None:
    params = {"build_args": {"MAX_JOBS": "8"}, "build_no_cache": True, "build_memory": "64Gi"}
    options = build_options(_SETTINGS, ImageBuild(**RunOptions.from_params(params).build_fields))
    assert options.build_args == {"DYNAMO_REF": "1.6.1", "MAX_JOBS": "8"}
    assert (options.build_no_cache, options.build_cpu, options.build_memory) == (True, "4", "64Gi")


def test_an_empty_form_changes_nothing() -> None:
    assert build_options(_SETTINGS, ImageBuild(**RunOptions.from_params({}).build_fields)) is _SETTINGS


@pytest.mark.parametrize("build", [ImageBuild(args={"A": "b"}), ImageBuild(no_cache=True), ImageBuild(cpu="2")])
def test_what_would_have_no_effect_is_refused(build: ImageBuild) -> None:
    with pytest.raises(Refused, match="WIDELOOP_CLUSTER__BUILD=true"):
        build_options(ClusterOptions(), build)


@pytest.mark.parametrize(
    "params",
    [
        {"build_args": ["A=b"]},
        {"build_args": {"A": 1}},
        {"build_cpu": "many"},
        {"build_memory": "64GiB"},
        {"build_cpu": "0"},
    ],
)
def test_values_that_are_none_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(Refused, match=next(iter(params))):
        RunOptions.from_params(params)
