"""What a dimension of a sweep is, and the two kinds: a range of numbers, and a few choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter
from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.parameters import Parameter

if TYPE_CHECKING:
    import optuna

#: Whose workers: every role's, those that prefill, those that decode. An aggregated worker does both.
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
        title: above a column, e.g. ``Memory fraction``. short: in a chart's hover text, e.g. ``memory``.
        unit: of the knob, empty for counts and shares.
        role: whose workers have it.
        knob: the field of ``Knobs`` that it sets, by which the engine knows its flag.
        key: of the knob's value in tables and reports; the roles of a knob are told apart by it.
        value_type: type of a value with what an engine takes of it.
        parameters: the form's fields for its bounds.
        by_default: a sweep varies it when it is not told otherwise.
        kept: its knob is stored with each trial also where it is not searched.
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
        """Roles of workers that have it; the first that a deployment has is the one whose value is shown."""
        return _ROLES[self.role]

    def is_of(self, worker: WorkerSpec) -> bool:
        """Whether a value of this dimension changes ``worker``."""
        return worker.role in self.roles

    def worker(self, workers: Sequence[WorkerSpec]) -> WorkerSpec:
        """The one of a deployment's workers whose value is shown."""
        return next(w for role in self.roles for w in workers if w.role == role)

    def default(self, spec: DeploymentSpec) -> float:
        """The value at which the resolved default ``spec`` stands.

        Raises:
            ValueError: the knob is left to the engine.
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

    def rounded(self, value: float) -> float:
        """``value`` as an engine takes it: a study's storage gives every number as a float."""
        return int(value)

    def label(self, value: str) -> str:
        """A knob's value as a chart's label has it; ``value`` is its text."""
        return f"{self.short} {value}"

    def asked_for(self, values: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Whether the form asks for it though its list of what to vary does not name it."""
        return False

    def findings(self, bounds: Bounds, spec: DeploymentSpec) -> list[Finding]:  # noqa: ARG002
        """What is wrong with ``bounds`` on the workers of ``spec``; fields are parameters."""
        return []

    def widest(self, bounds: Bounds, spec: DeploymentSpec) -> Bounds:  # noqa: ARG002
        """``bounds`` with the values that the default ``spec`` makes possible beyond those of the form."""
        return bounds

    def _values(self, bounds: Any) -> Bounds:
        """Each of ``bounds`` as the type of a value has it.

        Raises:
            ValueError: one is of another type or out of its range.
        """
        adapter: TypeAdapter[float] = TypeAdapter(self.value_type)
        return tuple(adapter.validate_python(value) for value in bounds)

    @abstractmethod
    def bounds(self, values: Mapping[str, Any]) -> Bounds:
        """The bounds that the form's ``values`` give.

        Raises:
            Refused: they are the wrong way round, or none.
        """

    @abstractmethod
    def checked(self, bounds: Any) -> Bounds:
        """Bounds as they were stored.

        Raises:
            ValueError: no engine takes them.
        """

    @abstractmethod
    def including(self, bounds: Bounds, value: float) -> Bounds:
        """The smallest bounds that hold ``bounds`` and ``value``."""

    @abstractmethod
    def contains(self, bounds: Bounds, value: float) -> bool:
        """Whether a point with ``value`` lies inside."""

    @abstractmethod
    def distribution(self, bounds: Bounds) -> optuna.distributions.BaseDistribution:
        """Optuna's form of the bounds."""

    @abstractmethod
    def suggest(self, trial: optuna.Trial, bounds: Bounds) -> float:
        """The trial's value."""

    @abstractmethod
    def levels(self, bounds: Bounds) -> int:
        """Values that a grid of a usual resolution would try."""


class Range(Dimension):
    """A number between two bounds, of type int unless ``fraction``.

    Attributes:
        parameters: of the lower and the upper bound, or of the upper alone; then the lower is ``lowest``.
        log: doubling matters as much at the lower end as at the upper.
        digits: of a fraction, as engines take it. None: whole numbers.
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

    def levels(self, bounds: Bounds) -> int:
        return self.grid or int(bounds[1] - bounds[0]) + 1


class Choices(Dimension):
    """A few values and no range. The one parameter lists them; without any it is not searched."""

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

    def levels(self, bounds: Bounds) -> int:
        return len(bounds)
