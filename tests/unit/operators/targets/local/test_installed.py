from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines.base import Need
from wideloop.manifests.errors import TargetError
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local import installed
from wideloop.operators.targets.local.environment import environment_python, prepare_environment

HERE = Path(sys.executable)


@pytest.fixture
def sglang() -> DeploymentSpec:
    hardware = profiles.hardware("h200-2")
    return DeploymentSpec(
        name="one",
        target="local",
        engine="sglang",
        image="",
        model=profiles.model("Random-Qwen3-MoE-8L"),
        model_path="/m",
        hardware=hardware,
        workers=(WorkerSpec(role="aggregated", layout=hardware.workers["aggregated"]),),
    )


def test_the_digest_stands_for_packages_and_options():
    assert installed.digest(HERE, ()) == installed.digest(HERE, ())
    assert installed.digest(HERE, ("--attention-backend", "triton")) != installed.digest(HERE, ())
    assert installed.version(HERE, "pydantic") == version("pydantic")
    assert installed.version(HERE, "no-such-package") is None


def test_what_is_no_python_is_said_so(tmp_path: Path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(TargetError, match="cannot list its packages"):
        installed.packages(broken)


def test_a_named_interpreter_is_used_and_verified_once(tmp_path: Path):
    settings = Settings(home=tmp_path, sglang_python=HERE)
    assert environment_python(settings, "sglang") == HERE
    first = prepare_environment(settings, "sglang", ("json", "pydantic"))
    assert not first.reused and first.versions["pydantic"] == version("pydantic")
    assert prepare_environment(settings, "sglang", ("json", "pydantic")).reused
    other = Settings(home=tmp_path, sglang_python=HERE, sglang_options="--dtype bfloat16")
    assert not prepare_environment(other, "sglang", ("json", "pydantic")).reused


def test_an_interpreter_that_is_missing_is_named_with_its_setting(tmp_path: Path):
    settings = Settings(home=tmp_path, sglang_python=tmp_path / "none")
    with pytest.raises(TargetError, match="WIDELOOP_SGLANG_PYTHON"):
        environment_python(settings, "sglang")
    with pytest.raises(TargetError, match="set WIDELOOP_SGLANG_PYTHON"):
        environment_python(Settings(home=tmp_path), "sglang")


def test_another_version_than_asked_for_is_refused_with_the_installed_one(sglang: DeploymentSpec):
    installed_one = sglang.model_copy(update={"engine": "pydantic", "engine_version": version("pydantic")})
    assert installed.other_version(installed_one, HERE) is None
    found = installed.other_version(installed_one.model_copy(update={"engine_version": "0.1"}), HERE)
    assert found is not None and found.suggestion == f"Use {version('pydantic')}"


def test_what_an_installation_lacks_is_said_with_what_to_install(sglang: DeploymentSpec):
    there = Need(packages=("no-such-package", "pydantic"), purpose="this")
    lacks = Need(packages=("no-such-package", "another"), purpose="that")
    (found,) = installed.missing(sglang, HERE, [there, lacks])
    assert "has no no-such-package or another, which that needs" in found.rule
    assert found.suggestion == f"Run {HERE} -m pip install no-such-package"
