"""Values of a config.json, read by key and checked: a hostile or misspelt one is a finding that names the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding

#: Largest value of any single number: Llama-4-Scout's context, the largest so far, has 10,485,760 tokens.
_MOST = 10**9
#: Largest number of layers and of experts: lists of that length are made.
MOST_LAYERS = 1000
MOST_EXPERTS = 100_000
_SHOWN = 100
_NO_MOE = "Use a mixture-of-experts model such as DeepSeek-R1, Qwen3-MoE or Mixtral"


class Keys:
    """The keys of one config under the names that families give them.

    Attributes:
        name: the model, for findings.
        used: names of all keys that were asked for, whether present or not.
    """

    def __init__(self, config: Mapping[str, Any], name: str, prefix: str = "", used: set[str] | None = None) -> None:
        self._config = config
        self.name = name
        self._prefix = prefix
        self.used: set[str] = set() if used is None else used

    def refuse(self, rule: str, suggestion: str = _NO_MOE) -> NoReturn:
        """Raise the finding about this model."""
        name = self.name if len(self.name) <= _SHOWN else f"{self.name[:_SHOWN]}..."
        raise Refused([Finding(field="model", value=name, rule=rule, suggestion=suggestion)])

    def refuse_value(self, key: str, rule: str, works: object) -> NoReturn:
        """Raise the finding about the value of ``key``."""
        value = repr(self._config.get(key))
        value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
        self.refuse(f"its config.json has {self._prefix}{key} = {value}: {rule}", f"A value that works: {works}")

    def raw(self, *keys: str) -> Any:
        """The first of ``keys`` that is there and not null, as it is; None when there is none."""
        self.used.update(keys)
        return next((self._config[k] for k in keys if self._config.get(k) is not None), None)

    def present(self, *keys: str) -> str | None:
        """The name of the first of ``keys`` that is there and not null."""
        self.used.update(keys)
        return next((k for k in keys if self._config.get(k) is not None), None)

    def count(self, *keys: str, default: int = 0, least: int = 0, most: int = _MOST) -> int:
        """A whole number; of a list of equal numbers, that number."""
        key = self.present(*keys)
        if key is None:
            return default
        return self._whole(key, self._config[key], least, most)

    def need(self, *keys: str, most: int = _MOST) -> int:
        """A positive whole number that must be there."""
        if self.present(*keys) is None:
            self.refuse(
                f"its config.json has none of {', '.join(keys)}: it is not a known mixture-of-experts format",
            )
        return self.count(*keys, least=1, most=most)

    def ratio(self, *keys: str, default: float = 1.0) -> float:
        """A fraction, more than 0 and at most 1."""
        key = self.present(*keys)
        if key is None:
            return default
        value = self._config[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            self.refuse_value(key, "must be a number above 0 and at most 1", 0.5)
        return float(value)

    def flag(self, *keys: str) -> bool:
        """Whether the first of ``keys`` that is there is true."""
        return self.raw(*keys) is True

    def text(self, *keys: str) -> str:
        """A text; empty when there is none."""
        value = self.raw(*keys)
        return value if isinstance(value, str) else ""

    def numbers(self, key: str) -> list[int]:
        """A list of whole numbers, also when written as text (``"4,5,6"``)."""
        value = self.raw(key)
        if isinstance(value, str) and re.fullmatch(r"\s*\d{1,6}(\s*,\s*\d{1,6})*\s*", value):
            return [int(part) for part in value.split(",")]
        if not isinstance(value, list) or len(value) > MOST_LAYERS:
            self.refuse_value(key, f"must be a list of at most {MOST_LAYERS} whole numbers", [0, 1, 1])
        return [self._whole(key, v, 0, _MOST) for v in value]

    def names(self, key: str) -> list[str]:
        """A list of texts, for instance the type of each layer."""
        value = self.raw(key)
        if not isinstance(value, list) or len(value) > MOST_LAYERS or not all(isinstance(v, str) for v in value):
            self.refuse_value(key, f"must be a list of at most {MOST_LAYERS} texts", ["full_attention"])
        return list(value)

    def section(self, key: str) -> Keys:
        """The object under ``key``; an empty one when it is missing."""
        value = self.raw(key)
        if value is not None and not isinstance(value, dict):
            self.refuse_value(key, "must be an object", "{}")
        return Keys(value or {}, self.name, f"{self._prefix}{key}.", self.used)

    def items(self) -> list[tuple[str, Any]]:
        return list(self._config.items())

    def _whole(self, key: str, value: Any, least: int, most: int) -> int:
        if isinstance(value, list) and value and all(v == value[0] for v in value):
            value = value[0]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, list) and value:
            self.refuse_value(key, "differs between layers, which is not understood", value[0])
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.refuse_value(key, f"must be a whole number from {least} to {most}", max(least, 1))
        return value
