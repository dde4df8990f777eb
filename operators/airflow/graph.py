"""Draw the stages of :mod:`wideloop.operators.steps.cycle_plan` as a graph of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from airflow.sdk import task_group
from wideloop.operators.airflow import tasks
from wideloop.operators.airflow.benchmark import Benchmark
from wideloop.operators.airflow.sweep import RunTrials
from wideloop.operators.airflow.wait_ready import WaitReady
from wideloop.operators.steps.cycle_plan import Stage, Work
from wideloop.results.airflow_names import GPU_POOL


class DeploymentTasks(NamedTuple):
    """Ends of a measured deployment: the benchmark, what was collected after it, the teardown.

    ``collected`` are the recordings, or all of an examination; None where the plan asks for neither.
    """

    benchmark: Any
    collected: Any
    teardown: Any


def draw(stages: Sequence[Stage]) -> None:
    """Make the tasks of the DAG that is being defined: those of each stage, then the one that closes the cycle."""
    graph = _Graph(stages)
    for stage in stages:
        graph.add(stage)
    graph.close()


class _Graph:
    """What was drawn so far; ``results`` by stage: the task whose result others take."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.results: dict[str, Any] = {}
        self.deployments: dict[str, DeploymentTasks] = {}

    def add(self, stage: Stage) -> None:
        builders: dict[Work, Callable[[Stage], Any]] = {
            "check_request": self._check_request,
            "prepare_image": lambda _: tasks.prepare_image(),
            "prepare_weights": lambda _: tasks.prepare_weights(),
            "measure": self._measure,
            "place_experts": self._place_experts,
            "compare_experts": self._compare_experts,
            "run_trials": lambda stage: self._run_trials(stage, "trials"),
            "run_repeats": lambda stage: self._run_trials(stage, "repeats"),
            "recommend": lambda _: tasks.recommend(),
        }
        self.results[stage.name] = result = builders[stage.work](stage)
        if stage.deployment is None:
            self._before(stage) >> result

    def close(self) -> None:
        """Close the cycle after every stage that no other one needs."""
        needed = {name for stage in self.stages.values() for name in stage.needs}
        [result for name, result in self.results.items() if name not in needed] >> tasks.close_cycle()

    def _before(self, stage: Stage) -> list[Any]:
        """The tasks to wait for: a sweep needs the accelerators of earlier deployments, which their teardowns free."""
        takes_accelerators = stage.work in ("measure", "run_trials", "run_repeats")
        freed = [self.deployments[n] for n in stage.needs if n in self.deployments] if takes_accelerators else []
        data = [self.results[n] for n in stage.needs if not (takes_accelerators and n in self.deployments)]
        return [*data, *(task for made in freed for task in (made.benchmark, made.teardown))]

    def _check_request(self, _stage: Stage) -> Any:
        stages = self.stages.values()
        return tasks.check_request(
            sweeps=any(stage.work == "run_trials" for stage in stages),
            records=any(stage.deployment is not None and stage.deployment.record for stage in stages),
            compares_placed=any(stage.work == "compare_experts" for stage in stages),
        )

    def _measure(self, stage: Stage) -> Any:
        made = deploy_and_measure(stage, self.results["image"], self.results["weights"], self._before(stage))
        self.deployments[stage.name] = made
        return made.benchmark if made.collected is None else made.collected

    def _place_experts(self, stage: Stage) -> Any:
        source = self.stages[stage.needs[0]].deployment
        collected = self.results[stage.needs[0]]
        examined = source is not None and source.collect == "examination"
        return tasks.place_experts(collected["recordings"] if examined else collected)

    def _compare_experts(self, stage: Stage) -> Any:
        before, after = stage.needs[:2]
        return tasks.compare_experts(self.results[before], self.results[after])

    def _run_trials(self, stage: Stage, what: Any) -> Any:
        return RunTrials(task_id=stage.name, what=what, image=self.results["image"], model_path=self.results["weights"])


def deploy_and_measure(stage: Stage, image: Any, model_path: Any, after: Sequence[Any]) -> DeploymentTasks:
    """Deploy the form's configuration, benchmark it and free the accelerators, whatever happens.

    A setup that fails keeps its teardown from running, so the setup only computes the name: whatever becomes of
    applying the deployment, also half of it, is deleted. ``after`` are tasks to wait for.
    """
    wanted = stage.deployment
    assert wanted is not None

    @task_group(group_id=stage.name)
    def group() -> Any:
        name = tasks.name_deployment.override(task_id="name_deployment")(stage.name)
        applied = tasks.apply_deployment.override(task_id="apply_deployment")(
            stage.name,
            image,
            model_path,
            record=wanted.record,
            placed=wanted.placed,
            compared=wanted.compared,
        )
        # Nothing runs, not even the setup, before the earlier stages have ended well.
        [model_path, *after] >> name >> applied
        # The default configuration must run: without it there is nothing to compare with.
        ready = WaitReady(
            task_id="wait_until_ready", deployment=applied, must_be_ready=True, stage=stage.name, pool=GPU_POOL
        )
        bench = Benchmark(
            task_id="benchmark",
            deployment=applied,
            waited=ready.output,
            purpose=wanted.purpose,
            filed_as=wanted.label,
            repeat=wanted.repeat,
            record=wanted.record,
            stage=stage.name,
            pool=GPU_POOL,
        )
        teardown = tasks.delete_deployment.override(task_id="delete_deployment")(name)
        teardown = teardown.as_teardown(setups=name, on_failure_fail_dagrun=True)
        collected = _collected(wanted.collect, applied)
        if collected is not None:
            bench >> collected >> teardown
        bench >> teardown
        return DeploymentTasks(bench, collected, teardown)

    result: Any = group()
    return DeploymentTasks(*result)


def _collected(collect: str | None, deployment: Any) -> Any:
    if collect is None:
        return None
    if collect == "recordings":
        return tasks.collect_recordings.override(task_id="collect_recordings")(deployment)
    return tasks.examine_deployment.override(task_id="examine_deployment")(deployment)
