"""Base class of the dimensions of a sweep, and its two kinds: a range of numbers, and a list of choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.parameters import Parameter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import optuna

    Floats = npt.NDArray[np.floating[Any]]

#: Workers that a dimension applies to: all, those that prefill, those that decode. An aggregated worker does both.
KnobRole = Literal["all", "prefill", "decode"]
#: Lower and upper bound, both included; or the choices.
Bounds = tuple[float, ...]

_ROLES: dict[KnobRole, tuple[str, ...]] = {
    "all": ("decode", "aggregated", "prefill"),
    "decode": ("decode", "aggregated"),
    "prefill": ("prefill", "aggregated"),
}


class Dimension(ABC):
    """One knob of the workers of one role, as a dimension of the search.

    Attributes:
        name: in studies, stored points and the form's list of what a sweep varies.
        title: column heading, e.g. ``Memory fraction``.
        short: name in a chart's hover text, e.g. ``memory``.
        unit: unit of the knob, empty for counts and shares.
        role: role of the workers that have it.
        knob: the field of ``Knobs`` that it sets, which the engine translates to a flag.
        key: key of the knob's value in tables and reports; it differs between the roles of a knob.
        value_type: type of a value, with the bounds that engines accept.
        parameters: the form's fields for its bounds.
        by_default: a sweep varies it by default.
        kept: its knob is stored with each trial even when it is not searched.
    """

    name: str
    title: str
    short: str
    unit: str = ""
    role: KnobRole
    knob: str
    value_type: Any
    parameters: tuple[Parameter, ...]
    by_default: bool = False
    kept: bool = False

    @property
    def key(self) -> str:
        return self.name

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of workers that have it; pages show the value of the first role that a deployment has."""
        return _ROLES[self.role]

    def is_of(self, worker: WorkerSpec) -> bool:
        """Whether a value of this dimension changes ``worker``."""
        return worker.role in self.roles

    def worker(self, workers: Sequence[WorkerSpec]) -> WorkerSpec:
        """The worker of a deployment whose value is shown."""
        return next(w for role in self.roles for w in workers if w.role == role)

    def default(self, spec: DeploymentSpec) -> float:
        """The value of the resolved default ``spec``.

        Raises:
            ValueError: the knob is not resolved.
        """
        worker = self.worker(spec.workers)
        value: float | None = getattr(worker.knobs, self.knob)
        if value is None:
            raise ValueError(f"{self.knob} of {worker.role} is not resolved")
        return value

    def apply(self, value: float, worker: WorkerSpec) -> dict[str, Any]:
        """The knobs of a default ``worker`` that ``value`` sets."""
        del worker
        return {self.knob: self.rounded(value)}

    def shown(self, knobs: Knobs) -> Any:
        """The value that pages show of a worker's ``knobs``."""
        return getattr(knobs, self.knob)

    def rounded(self, value: float) -> float:
        """``value`` with the type and digits that engines accept: a study's storage returns every number as a float."""
        return int(value)

    def label(self, value: str) -> str:
        """Format the text ``value`` of a knob for a chart's label."""
        return f"{self.short} {value}"

    def asked_for(self, values: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Whether other fields of the form select it although the list of dimensions does not name it."""
        return False

    def findings(self, bounds: Bounds, spec: DeploymentSpec) -> list[Finding]:  # noqa: ARG002
        """Findings about ``bounds`` on the workers of ``spec``; their fields are parameters."""
        return []

    def widest(self, bounds: Bounds, spec: DeploymentSpec) -> Bounds:  # noqa: ARG002
        """``bounds`` extended by values that the default ``spec`` allows beyond the form's."""
        return bounds

    def _values(self, bounds: Any) -> Bounds:
        """Convert each of ``bounds`` to the type of a value.

        Raises:
            ValueError: a bound has another type or is out of range.
        """
        adapter: TypeAdapter[float] = TypeAdapter(self.value_type)
        return tuple(adapter.validate_python(value) for value in bounds)

    @abstractmethod
    def bounds(self, values: Mapping[str, Any]) -> Bounds:
        """The bounds that the form's ``values`` give.

        Raises:
            Refused: the lower bound is not below the upper one, or there are no choices.
        """

    @abstractmethod
    def checked(self, bounds: Any) -> Bounds:
        """Validate stored bounds.

        Raises:
            ValueError: no engine accepts them.
        """

    @abstractmethod
    def including(self, bounds: Bounds, value: float) -> Bounds:
        """The smallest bounds that include ``bounds`` and ``value``."""

    @abstractmethod
    def contains(self, bounds: Bounds, value: float) -> bool:
        """Whether a point with ``value`` lies inside."""

    @abstractmethod
    def distribution(self, bounds: Bounds) -> optuna.distributions.BaseDistribution:
        """The bounds as an Optuna distribution."""

    @abstractmethod
    def suggest(self, trial: optuna.Trial, bounds: Bounds) -> float:
        """The trial's value."""

    @abstractmethod
    def to_unit(self, bounds: Bounds, values: Floats) -> Floats:
        """Positions of ``values`` between 0 and 1, on the scale of the search."""

    @abstractmethod
    def from_unit(self, bounds: Bounds, positions: Floats) -> Floats:
        """The values nearest to positions between 0 and 1; ``from_unit(to_unit(v))`` is ``v``."""

    @abstractmethod
    def levels(self, bounds: Bounds) -> int:
        """Values that a grid of a usual resolution would try."""


class Range(Dimension):
    """A number between two bounds, of type int unless ``fraction``.

    Attributes:
        parameters: of the lower and the upper bound, or of the upper one only; then ``lowest`` is the lower bound.
        log: search on a logarithmic scale.
        digits: digits of a fraction that engines accept. None: whole numbers.
        grid: values that a grid would try; None: all of them.
    """

    lowest: float = 0
    log: bool = False
    digits: int | None = None
    grid: int | None = None

    def rounded(self, value: float) -> float:
        return int(value) if self.digits is None else round(float(value), self.digits)

    def bounds(self, values: Mapping[str, Any]) -> Bounds:
        upper = self.parameters[-1]
        low = values[self.parameters[0].name] if len(self.parameters) > 1 else self.lowest
        high = values[upper.name]
        if low >= high:
            raise Refused([upper.finding(high, f"lower bound {low} must be below upper bound {high}")])
        return low, high

    def checked(self, bounds: Any) -> Bounds:
        low, high = self._values(bounds)
        if low >= high:
            raise ValueError(f"lower bound {low} must be below upper bound {high}")
        return low, high

    def including(self, bounds: Bounds, value: float) -> Bounds:
        return min(bounds[0], value), max(bounds[1], value)

    def contains(self, bounds: Bounds, value: float) -> bool:
        return bounds[0] <= value <= bounds[1]

    def distribution(self, bounds: Bounds) -> optuna.distributions.BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.digits is None:
            return IntDistribution(int(bounds[0]), int(bounds[1]), log=self.log)
        return FloatDistribution(*bounds, log=self.log)

    def suggest(self, trial: optuna.Trial, bounds: Bounds) -> float:
        if self.digits is None:
            return int(trial.suggest_int(self.name, int(bounds[0]), int(bounds[1]), log=self.log))
        return self.rounded(trial.suggest_float(self.name, *bounds, log=self.log))

    def to_unit(self, bounds: Bounds, values: Floats) -> Floats:
        import numpy as np

        low, high = np.log(bounds) if self.log else bounds
        result: Floats = ((np.log(values) if self.log else np.asarray(values, dtype=float)) - low) / (high - low)
        return result

    def from_unit(self, bounds: Bounds, positions: Floats) -> Floats:
        import numpy as np

        low, high = np.log(bounds) if self.log else bounds
        values = low + positions * (high - low)
        result: Floats = np.round(np.exp(values) if self.log else values, self.digits or 0).clip(bounds[0], bounds[1])
        return result

    def levels(self, bounds: Bounds) -> int:
        return self.grid or int(bounds[1] - bounds[0]) + 1


class Choices(Dimension):
    """A list of values instead of a range. Its one parameter lists them; an empty list is not searched."""

    def asked_for(self, values: Mapping[str, Any]) -> bool:
        return bool(values[self.parameters[0].name])

    def bounds(self, values: Mapping[str, Any]) -> Bounds:
        (choices,) = self.parameters
        if not values[choices.name]:
            raise Refused([choices.finding([], f"{self.name} is to be varied, so it needs choices")])
        return self.checked(values[choices.name])

    def checked(self, bounds: Any) -> Bounds:
        return tuple(sorted(set(self._values(bounds))))

    def including(self, bounds: Bounds, value: float) -> Bounds:
        return self.checked((*bounds, self.rounded(value)))

    def contains(self, bounds: Bounds, value: float) -> bool:
        return value in bounds

    def distribution(self, bounds: Bounds) -> optuna.distributions.BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(bounds)

    def suggest(self, trial: optuna.Trial, bounds: Bounds) -> float:
        value: float = trial.suggest_categorical(self.name, bounds)
        return value

    def to_unit(self, bounds: Bounds, values: Floats) -> Floats:
        import numpy as np

        result: Floats = np.searchsorted(bounds, values) / max(len(bounds) - 1, 1)
        return result

    def from_unit(self, bounds: Bounds, positions: Floats) -> Floats:
        import numpy as np

        result: Floats = np.asarray(bounds)[np.round(np.asarray(positions) * (len(bounds) - 1)).astype(int)]
        return result

    def levels(self, bounds: Bounds) -> int:
        return len(bounds)
