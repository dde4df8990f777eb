"""Base of the immutable models: how a changed copy of one is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A model whose fields do not change; :meth:`changed` makes a validated copy.

    ``model_copy(update=...)`` of pydantic does not validate: a misspelt field or a value out of bounds would reach the
    engine.
    """

    model_config = ConfigDict(frozen=True)

    def changed(self, **update: Any) -> Self:
        """A copy with some fields replaced, validated as a whole.

        Fields that hold models may be given as models, which are taken as they are, or as dicts.

        Example:
            >>> from wideloop.manifests.deployment import Knobs
            >>> Knobs(redundant_experts=8).changed(cuda_graph_max_bs=64).cuda_graph_max_bs
            64

        Raises:
            TypeError: there is no such field.
            ValidationError: a value breaks the field's rule.
        """
        unknown = update.keys() - type(self).model_fields.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        # Defaults stay defaults: an overlay of a provider replaces only what was never set.
        given = {name: value for name, value in self if name in self.model_fields_set}
        return type(self).model_validate({**given, **update})


def without_defaults(fields: dict[str, Any], model: type[BaseModel], names: Iterable[str]) -> dict[str, Any]:
    """The serialised ``fields`` of a ``model`` without those of ``names`` that are at their defaults.

    So that a field which was added later leaves fingerprints of what does not use it as they were.
    """
    unused = {name for name in names if name in fields and fields[name] in (model.model_fields[name].default, [])}
    return {name: value for name, value in fields.items() if name not in unused}
