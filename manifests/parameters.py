"""A parameter of a run: texts, type with bounds and default, with the same checks for every source of values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding, unknown


@dataclass(frozen=True, eq=False)
class Parameter:
    """One input value of a run.

    Attributes:
        name: its key in the trigger form, in ``--conf``, over REST and in a request file.
        title, help, section: texts of the trigger form.
        type: an annotation with its bounds, e.g. ``Annotated[int, Field(ge=1)]``; see :func:`field_type`.
        default: the value of a run that does not name it.
        example: a value that works, for error messages; by default the default.
        form: further JSON schema keys for the form only, e.g. ``examples``.
    """

    name: str
    title: str
    help: str
    section: str
    type: Any
    default: Any
    example: Any = None
    form: Mapping[str, Any] = field(default_factory=dict)

    def parse(self, value: Any) -> Any:
        """Convert the JSON value ``value`` to the parameter's type.

        Raises:
            Refused: the value has another type or is out of bounds.
        """
        try:
            return _adapter(self).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            wrong = value if first["type"] == "json_invalid" else first["input"]
            raise Refused([self.finding(wrong, first["msg"])]) from error
        except (TypeError, ValueError, RecursionError) as error:
            raise Refused([self.finding(repr(value)[:100], f"is no JSON value: {error}")]) from error

    def finding(self, value: Any, rule: str) -> Finding:
        """The error for ``value``, with a value that works."""
        works = self.default if self.example is None else self.example
        suggestion = "Leave it empty for the engine's own choice" if works is None else f"Use e.g. {works}"
        return Finding(field=self.name, value=value, rule=rule, suggestion=suggestion)

    def schema(self) -> dict[str, Any]:
        """JSON schema of the type, as Airflow's trigger form takes it."""
        return _flat(_adapter(self).json_schema()) | dict(self.form)


def field_type(model: type[BaseModel], name: str) -> Any:
    """The type of a model's field with its bounds, so that bounds are written only there."""
    info = model.model_fields[name]
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def parse_all(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters by name, parsed; a parameter that is missing in ``values`` gets its default.

    Raises:
        Refused: a value has another type or is out of bounds, or a name is unknown. Lists all such errors.
    """
    by_name = {p.name: p for p in parameters}
    findings = [unknown_parameter(name, values[name], by_name) for name in values if name not in by_name]
    parsed = {}
    for name, parameter in by_name.items():
        try:
            parsed[name] = parameter.parse(values.get(name, parameter.default))
        except Refused as refusal:
            findings += refusal.findings
    if findings:
        raise Refused(findings)
    return parsed


def unknown_parameter(name: str, value: Any, names: Iterable[str]) -> Finding:
    """The finding for a key that is no parameter, with the nearest one."""
    nearest = unknown(name, str(name), names).suggestion
    return Finding(field=str(name), value=value, rule="is not a parameter", suggestion=nearest)


@lru_cache
def _adapter(parameter: Parameter) -> TypeAdapter[Any]:
    return TypeAdapter(parameter.type)


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """Rewrite ``anyOf`` a type and null as a list of types, by which the form recognises an optional field."""
    options = schema.pop("anyOf", None)
    if options is None:
        return schema
    given: dict[str, Any] = next(o for o in options if o.get("type") != "null")
    choices = {"enum": [*given["enum"], None]} if "enum" in given else {}
    return {**schema, **given, **choices, "type": [given["type"], "null"]}
