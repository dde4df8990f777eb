"""The parameters of the DAGs as Airflow's trigger form takes them.

Texts and bounds are those of :mod:`wideloop.operators.request.parameters`; as JSON schema they are checked by the
form and by the REST API before a run begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.sdk import Param
from wideloop.manifests.clients import load_generator_names
from wideloop.manifests.engines import engine_names
from wideloop.manifests.parameters import Parameter
from wideloop.manifests.profiles import hardware_titles
from wideloop.operators.request import parameters
from wideloop.operators.request.engine_knobs import engine_parameters
from wideloop.operators.targets import target_names


def where() -> dict[str, Param]:
    """Target, engine, model, hardware and load generator."""
    titles = hardware_titles()
    choices: dict[str, dict[str, Any]] = {
        "target": {"enum": list(target_names())},
        "engine": {"enum": list(engine_names())},
        # Proposals only: a profile of one's own is a path.
        "hardware": {"examples": list(titles), "values_display": titles},
        "client": {"enum": list(load_generator_names())},
    }
    return {p.name: _param(p, **choices.get(p.name, {})) for p in parameters.PLACE}


def workload() -> dict[str, Param]:
    """The load and the objectives it is judged by."""
    return _params(parameters.WORKLOAD)


def knobs() -> dict[str, Param]:
    """The configuration that everything is compared with."""
    return _params((*parameters.KNOBS, *engine_parameters()))


def recorder() -> dict[str, Param]:
    """How expert distributions are recorded."""
    return _params(parameters.RECORDER)


def eplb() -> dict[str, Param]:
    """What the experts' own order is compared with."""
    return _params(parameters.EPLB)


def sweep() -> dict[str, Param]:
    """How the optimiser searches."""
    return _params(parameters.sweep_parameters())


def everything() -> dict[str, Param]:
    """What the whole cycle takes."""
    return {**where(), **workload(), **knobs(), **recorder(), **sweep()}


def option(name: str, **changes: Any) -> Param:
    """One of the options of a run that are no part of its request, e.g. ``cycle_id``; ``changes`` of its texts."""
    return _param(next(p for p in parameters.RUN_OPTIONS if p.name == name), **changes)


def image_build() -> dict[str, Param]:
    """How an image is built, where it is built in the cluster."""
    return {p.name: _param(p) for p in parameters.RUN_OPTIONS if p.name.startswith("build_")}


def deployment(help_text: str) -> Param:
    """The name of a deployment that exists; nothing that could be a path."""
    return option("deployment", description=help_text)


def _params(listed: Iterable[Parameter]) -> dict[str, Param]:
    return {p.name: _param(p) for p in listed}


def _param(parameter: Parameter, **changes: Any) -> Param:
    texts = {"title": parameter.title, "description": parameter.help, "section": parameter.section}
    values = {"default": parameter.default} | parameter.schema() | texts | changes
    return Param(values.pop("default"), **values)
