"""What a run works on, for and with: parameters that are no part of its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from wideloop.manifests.frozen import Frozen
from wideloop.manifests.parameters import parse_all
from wideloop.operators.request.parameters import RUN_OPTIONS


class RunOptions(Frozen):
    """The options of one run; see :data:`~wideloop.operators.request.parameters.RUN_OPTIONS` for what each is."""

    action: Literal["up", "down"]
    deployment: str | None
    keep_hours: float | None
    from_cycle: str | None
    from_trial: int | None
    cycle_id: str | None
    image: str | None
    model_path: str | None
    repeat_of: int | None
    repeat: int
    create: tuple[Literal["namespace", "hub_secret"], ...]
    build_args: dict[str, str]
    build_no_cache: bool
    build_cpu: str | None
    build_memory: str | None

    @property
    def build_fields(self) -> dict[str, Any]:
        """What the run wants otherwise about the build of an image, by the fields of the target's ``ImageBuild``."""
        given = {"args": self.build_args, "no_cache": self.build_no_cache}
        return given | {"cpu": self.build_cpu or "", "memory": self.build_memory or ""}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> RunOptions:
        """Read the options among the params of a DAG run.

        Raises:
            Refused: a value is outside what it takes.
        """
        names = {p.name for p in RUN_OPTIONS}
        return cls(**parse_all(RUN_OPTIONS, {name: value for name, value in params.items() if name in names}))
