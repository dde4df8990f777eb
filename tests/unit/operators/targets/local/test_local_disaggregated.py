"""SGLang's prefill and decode servers on this host: small servers in their place, SGLang's real router before them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.clients.aiperf import Aiperf
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.operators.settings import Settings
from wideloop.operators.targets.local.target import LocalTarget

from tests.unit.operators.targets.local_processes import OWNER, pids, running, settled, until

_SERVER = Path(__file__).parents[1] / "fake_sglang.py"
_GPUS = "".join(f"{i}, GPU-{i}, NVIDIA H200, 143771, 0, 580.159.04\n" for i in range(4))
PACKAGES = ["sglang==0.5.17", "sglang-router==0.3.2", "nixl==1.5.1"]


def environment(name: str) -> Path:
    folder = Settings().environments / name
    if not folder.exists():
        message = f"environment {name} is not built: python3 operators/bootstrap.py --tests"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return folder


class Host:
    """A host with four GPUs and an interpreter that has ``packages``, as far as anybody can tell."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.program("nvidia-smi", f'case "$1" in --query-gpu*) cat {folder}/gpus;; esac')
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        self.has(_GPUS, PACKAGES)
        (folder / "m").mkdir()
        (folder / "m" / "config.json").write_text("{}")
        self.settings = Settings(home=folder / "home", sglang_python=self.python(), benchmark_python=sys.executable)

    def has(self, gpus: str, packages: list[str]) -> None:
        (self.folder / "gpus").write_text(gpus)
        (self.folder / "packages").write_text(json.dumps(packages))

    def program(self, name: str, script: str) -> Path:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def python(self) -> Path:
        """Runs the small server for SGLang's, the real router, and lists ``packages``."""
        (router,) = environment("sglang-parser-0.5.21").glob("lib/python*/site-packages/sglang_router")
        (self.folder / "router").mkdir()
        (self.folder / "router" / "sglang_router").symlink_to(router)
        what_it_imports = environment("benchmark") / "bin" / "python"
        real = Path(sys.executable).resolve()
        return self.program(
            "python",
            f'case "$*" in *sglang_server*) exec {real} -I -S {_SERVER} "$@";;\n'
            f'*sglang_router*) PYTHONPATH={self.folder}/router exec {what_it_imports} "$@";;\n'
            f"*) cat {self.folder}/packages;; esac",
        )

    def spec(self, hardware: str = "h200-4", **knobs: object) -> DeploymentSpec:
        profile = profiles.hardware(hardware)
        return get_engine("sglang").resolve(
            DeploymentSpec(
                name="one",
                target="local",
                engine="sglang",
                engine_version="0.5.17",
                image="sha256:0",
                model=profiles.model("Random-Qwen3-MoE-8L"),
                model_path=str(self.folder / "m"),
                hardware=profile,
                workers=tuple(
                    WorkerSpec(role=r, layout=w, knobs=Knobs(**knobs)) for r, w in profile.workers.items()
                ),
                record_experts="stat",
            )
        )  # fmt: skip

    def seen(self, component: str, file: str) -> object:
        return json.loads((self.settings.local / "one" / "components" / component / file).read_text())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    found = Host(tmp_path, monkeypatch)
    yield found
    LocalTarget(found.settings, grace_s=0).delete("one")


@pytest.fixture
def target(host: Host) -> LocalTarget:
    return LocalTarget(host.settings, grace_s=5, start_timeout_s=60)


def test_a_standby_becomes_two_roles_that_answer_through_the_router_and_leave_nothing(host: Host, target: LocalTarget):
    assert target.preflight(host.spec(), Aiperf()) == []
    target.stand_by(host.spec(), OWNER)
    before = pids(host.settings, "one")
    assert set(before) == {"prefill-0", "decode-0"}
    target.apply(host.spec(mem_fraction_static=0.7), OWNER)
    assert settled(target, "one").state == "ready"
    assert before.items() < pids(host.settings, "one").items()

    # Both have answered: decode says what prefill has read.
    body = {"model": "Random-Qwen3-MoE-8L", "messages": [{"role": "user", "content": "a b c"}], "max_tokens": 2}
    answer = json.loads(target.call("one", "frontend", "/v1/chat/completions", body=body))
    assert answer["choices"][0]["message"]["content"] == "prefilled: a b c"

    seen = {role: host.seen(f"{role}-0", "environment.json") for role in ("prefill", "decode")}
    assert [seen[role]["CUDA_VISIBLE_DEVICES"] for role in ("prefill", "decode")] == ["0,1", "2,3"]
    assert "0.7" in host.seen("decode-0", "flags.json")

    endpoints = target.endpoints("one")
    assert set(endpoints.control) == {"prefill-0", "decode-0"}
    engine = get_engine("sglang")
    for worker in endpoints.control:
        target.call("one", worker, engine.flush_call(5)[0])
        target.call("one", worker, engine.recorder.start_path)
        target.call("one", worker, engine.recorder.dump_path)
        (recording,) = target.recordings("one", worker)
        assert recording.parent.name == worker
        posted = (recording.parent / "posted").read_text().split()
        assert posted == ["flush_cache", "start_expert_distribution_record", "dump_expert_distribution_record"]

    target.delete("one")
    assert running(host.settings) == 0
    for url in (endpoints.frontend, *(url for urls in endpoints.control.values() for url in urls)):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0, f"{url} is still served"


def test_one_role_that_dies_fails_the_deployment_and_the_other_goes_with_it(host: Host, target: LocalTarget):
    target.apply(host.spec(), OWNER)
    os.kill(pids(host.settings, "one")["decode-0"], signal.SIGKILL)
    until(lambda: target.status("one").state == "failed")
    diagnosis = target.status("one").diagnosis
    assert diagnosis is not None and diagnosis.component == "decode-0"
    target.delete("one")
    assert running(host.settings) == 0


@pytest.mark.parametrize(
    ("gpus", "packages", "rule"),
    [
        (_GPUS, PACKAGES[:1] + PACKAGES[2:], "no sglang-router, which the router"),
        (_GPUS, PACKAGES[:2], "no nixl, which moving KV caches"),
        (_GPUS[: len(_GPUS) // 2], PACKAGES, "needs 4 GPUs (2 to prefill, 2 to decode); this host has 2"),
    ],
)
def test_what_the_host_lacks_is_said_before_anything_starts(
    host: Host, target: LocalTarget, gpus: str, packages: list[str], rule: str
):
    host.has(gpus, packages)
    (found,) = target.preflight(host.spec(), Aiperf())
    assert rule in found.rule and found.severity == "error" and found.suggestion


def test_another_transfer_library_needs_another_package(host: Host):
    options = "--disaggregation-transfer-backend mooncake --disaggregation-ib-device mlx5_0"
    other = LocalTarget(host.settings.model_copy(update={"sglang_options": options}))
    (found,) = [f for f in other.preflight(host.spec(), Aiperf()) if f.severity == "error"]
    assert "mooncake-transfer-engine" in found.rule
