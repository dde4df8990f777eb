"""Only an engine that says so cannot hold a request: arithmetic never overrules one that started."""

from __future__ import annotations

from typing import Any

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.steps.cache_capacity import cache_tokens
from wideloop.operators.targets.base import Endpoints


class Answering:
    """The part of a target that is asked: its workers' metrics pages."""

    def __init__(self, pages: dict[str, tuple[str, ...] | None]) -> None:
        self._pages = pages

    def endpoints(self, name: str) -> Endpoints:
        return Endpoints(frontend="http://f", control=dict.fromkeys(self._pages, ("http://c",)))

    def call_all(self, name: str, component: str, path: str, **how: Any) -> tuple[str, ...]:
        page = self._pages[component]
        if page is None:
            raise TargetError("does not answer")
        return page


def spec(engine: str) -> DeploymentSpec:
    """DeepSeek-R1 where it cannot fit: by arithmetic its caches hold nothing."""
    profile = profiles.hardware("h100-16")
    workers = tuple(WorkerSpec(role=role, layout=layout) for role, layout in profile.workers.items())
    whole = DeploymentSpec(
        name="t", target="dynamo", engine=engine, image="sha256:0", model=profiles.model("DeepSeek-R1"),
        model_path="/m", hardware=profile, workers=workers,
    )  # fmt: skip
    return get_engine(engine).resolve(whole)


@pytest.mark.parametrize(
    ("pages", "tokens"),
    [
        ({"decode-0": ('sglang:max_total_num_tokens{tp_rank="0"} 161488.0\n',)}, {"decode-0": 161488}),
        ({"decode-0": ("# nothing\n",)}, {}),
        ({"decode-0": None, "prefill-0": ("sglang:max_total_num_tokens 5\n",)}, {"prefill-0": 5}),
    ],
)
def test_an_engines_own_figure_counts_and_no_other(pages, tokens):
    assert cache_tokens(Answering(pages), spec("dynamo-sglang")) == tokens  # type: ignore[arg-type]


def test_a_simulated_engines_cache_is_the_memory_models():
    assert cache_tokens(Answering({}), spec("simulated")) == {"prefill": 0, "decode": 0}  # type: ignore[arg-type]
