from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.operators.targets.kubernetes import terminations
from wideloop.operators.targets.kubernetes.pods import ended
from wideloop.operators.targets.kubernetes.view import View

from tests.unit.operators.targets.kubernetes.cluster_objects import (
    DYNAMO,
    NAME,
    at,
    event,
    exited,
    graph,
    pod,
    running_pod,
    view,
)

Json = dict[str, Any]
SERVING = get_engine("simulated")
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory."


def no_log(pod: Json, previous: bool) -> tuple[str, ...]:
    return ()


def said(*lines: str) -> terminations.ReadLog:
    return lambda pod, previous: lines


def died(code: int = 1, *, ago: float = 20, message: str = "") -> Json:
    return exited(code) | {"finishedAt": at(ago)} | ({"message": message} if message else {})


def group_pod(index: int = 0, *, group: int = 0, **more: Any) -> Json:
    """A pod of a LeaderWorkerSet: another one in its place has the same name."""
    marks = {"group-index": str(group), "worker-index": str(index)}
    labels = {f"leaderworkerset.sigs.k8s.io/{key}": value for key, value in marks.items()}
    name = f"{NAME}-decode-0-{group}" + (f"-{index}" if index else "")
    return pod(name=name, phase="Running", marks=labels, **more)


def restarted(index: int = 0, *, last: Json | None = None, **more: Any) -> Json:
    """What of a crash loop is seen of one pod: it was restarted once, and is then deleted with its group."""
    leaving = {"deletionTimestamp": at(-50), "deletionGracePeriodSeconds": 60}
    return group_pod(index, state={"running": {}}, last=last or died(), restarts=1, **leaving | more)


def diagnoses(seen: View, read_log: terminations.ReadLog = no_log) -> list[Diagnosis]:
    return list(terminations.fatal(seen, SERVING, read_log))


def remembering(*before: Sequence[Json], read_log: terminations.ReadLog = no_log, age: float = 3000) -> Json:
    """The graph after these pods were seen, one look after the other."""
    of = graph(age=age, annotations={})
    for pods in before:
        new = terminations.unrecorded(view(*pods, of=of), SERVING, read_log)
        of["metadata"]["annotations"] |= terminations.record(new)
    return of


def test_a_group_that_is_made_anew_for_the_second_time_is_in_a_crash_loop() -> None:
    of = remembering([restarted()], read_log=said("ValueError: no such backend"))
    assert diagnoses(view(group_pod(state={"running": {}}), of=of)) == []
    (found, *_) = diagnoses(view(restarted(), of=of), said("ValueError: no such backend"))
    assert (found.kind, found.component) == ("crashed", "decode")
    assert "2 ends in 2 pods" in found.message and f"{NAME}-decode-0-0" in found.message
    assert found.log_tail == ("ValueError: no such backend",)


def test_what_was_seen_outlives_pods_and_processes() -> None:
    of = remembering([restarted()], [restarted()], read_log=said("ValueError: no such backend"))
    fresh = view(group_pod(state={"running": {}}), of=of)
    assert [d.log_tail for d in diagnoses(fresh)] == [("ValueError: no such backend",)] * 2
    assert terminations.unrecorded(fresh, SERVING, no_log) == []


def test_what_came_up_again_has_got_over_the_ends_of_pods_that_are_gone() -> None:
    of = remembering([restarted()], [restarted(last=died(message=OUT_OF_MEMORY))], read_log=no_log)
    up = graph(age=3000, ready=True, annotations=of["metadata"]["annotations"])
    assert [d.kind for d in diagnoses(view(group_pod(state={"running": {}}), of=of))] != []
    assert diagnoses(view(group_pod(state={"running": {}}), of=up)) == []
    # What a pod that is there has gone through still counts.
    assert [d.kind for d in diagnoses(view(restarted(last=died(message=OUT_OF_MEMORY)), of=up))] == []
    here = group_pod(state={"running": {}}, last=died(message=OUT_OF_MEMORY), restarts=1)
    assert [d.kind for d in diagnoses(view(here, of=up))] == ["out_of_memory"]


def test_a_first_answer_forgets_the_ends_before_it_and_nothing_else() -> None:
    of = remembering([restarted()], [restarted()])
    of["metadata"]["annotations"]["wideloop/owner"] = "somebody"
    taken = terminations.forget(of)
    assert len(taken) == 2 and set(taken.values()) == {None}
    assert set(of["metadata"]["annotations"]) - set(taken) == {"wideloop/owner"}
    assert terminations.forget(graph()) == {}


def test_one_end_is_counted_once_however_often_it_is_seen() -> None:
    dying = group_pod(state={"terminated": died()})
    again = {**dying, "status": restarted()["status"]}
    leaving = {**again, "metadata": dying["metadata"] | {"deletionTimestamp": at(-50)}}
    of = remembering([dying], [dying], [again], [leaving])
    assert len(terminations.recorded(of)) == 1
    assert diagnoses(view(leaving, of=of)) == []


def test_ranks_that_end_together_are_one_trouble_and_not_many() -> None:
    assert diagnoses(view(*(restarted(index) for index in range(16)))) == []


def test_a_rank_that_ended_since_another_one_had_is_not_blamed() -> None:
    def log(pod: Json, previous: bool) -> tuple[str, ...]:
        leads = pod["metadata"]["name"].endswith("-0-0")
        return ("[Gloo] Connection closed by peer [10.0.0.7]:29500",) if leads else ("cannot open device",)

    of = remembering([restarted(0), restarted(1)], read_log=log)
    found = diagnoses(view(restarted(0), restarted(1), of=of), log)
    assert [d.log_tail[0] for d in found][:2] == ["cannot open device"] * 2


def test_a_rank_that_waited_in_vain_for_one_that_ran_out_of_memory_is_not_blamed() -> None:
    waited = group_pod(1, last=died(ago=30), state={"running": {}}, restarts=1)
    lacked = group_pod(last=died(ago=20), state={"running": {}}, restarts=1)
    logs = {waited["metadata"]["uid"]: "RuntimeError: DeepEP error: timeout (dispatch CPU)"}
    found = diagnoses(view(waited, lacked), lambda pod, _: (logs.get(pod["metadata"]["uid"], OUT_OF_MEMORY),))
    assert [diagnosis.kind for diagnosis in found] == ["out_of_memory", "timed_out"]


def test_the_first_end_is_the_cause() -> None:
    late, early = restarted(0, last=died(ago=10)), restarted(1, last=died(ago=30))
    of = remembering([late, early])
    found = diagnoses(view(restarted(0, last=died(ago=2)), restarted(1, last=died(ago=3)), of=of))
    assert early["metadata"]["name"] in found[0].message


def test_ends_that_a_deletion_brought_do_not_count() -> None:
    stopped = group_pod(
        state={"terminated": died(143, ago=5)}, deletionTimestamp=at(-50), deletionGracePeriodSeconds=60
    )
    assert ended(stopped) is None
    # It was restarted before, and the run after that was ended.
    twice = restarted() | {"status": restarted()["status"]}
    twice["status"]["containerStatuses"][0]["state"] = {"terminated": died(143, ago=5)}
    found = ended(twice)
    assert found is not None and (found.code, found.failures, found.running_again) == (1, 1, True)
    # One that had ended before anybody asked for its deletion.
    crashed = group_pod(state={"terminated": died(3, ago=30)}, deletionTimestamp=at(-50), deletionGracePeriodSeconds=60)
    found = ended(crashed)
    assert found is not None and (found.code, found.failures) == (3, 1)


def test_memory_that_ran_out_is_known_after_the_pod_is_gone() -> None:
    of = remembering([restarted()], read_log=said(OUT_OF_MEMORY))
    (found,) = diagnoses(view(of=of))
    assert found.kind == "out_of_memory"


def test_the_lines_that_a_node_kept_stand_in_for_a_log_that_is_gone() -> None:
    (found,) = diagnoses(view(restarted(last=died(message=OUT_OF_MEMORY))))
    assert (found.kind, found.log_tail) == ("out_of_memory", (OUT_OF_MEMORY,))


def test_the_log_of_a_pod_that_is_gone_is_not_asked_for() -> None:
    """A log is asked for by name, and another pod may have that name by now."""

    def read_log(pod: Json, previous: bool) -> tuple[str, ...]:
        raise AssertionError(pod["metadata"]["name"])

    seen = View(NAME, graph(age=300), gone=[restarted(last=died(message=OUT_OF_MEMORY))], platform=DYNAMO)
    assert [d.kind for d in diagnoses(seen, read_log)] == ["out_of_memory"]


def test_a_cause_that_events_tell_later_replaces_a_mere_crash() -> None:
    dying = restarted()
    of = remembering([dying])
    name = dying["metadata"]["name"]
    killed = event(name, "Killing", "Container main failed startup probe, will be restarted")
    (found,) = diagnoses(view(dying, of=of, events=[killed]))
    assert found.kind == "timed_out"
    killed["involvedObject"]["uid"] = "of the pod that had this name before"
    assert diagnoses(view(dying, of=of, events=[killed])) == []


def test_pods_of_an_earlier_graph_of_that_name_do_not_count() -> None:
    of = graph(age=5, annotations={})
    seen = View(
        NAME, of, [restarted(age=100)], gone=[restarted(age=90, last=died(message=OUT_OF_MEMORY))], platform=DYNAMO
    )
    assert terminations.unrecorded(seen, SERVING, said(OUT_OF_MEMORY)) == []


def test_long_lines_do_not_fill_the_graph() -> None:
    of = remembering([restarted(index) for index in range(32)], read_log=said(*["x" * 5000] * 200))
    assert sum(map(len, of["metadata"]["annotations"].values())) < 1 << 17


def clique_pod(random: str, index: int = 1, **more: Any) -> Json:
    """A pod of Grove's: another one in its place has another name and the same index in its clique."""
    marks = {"grove.io/podclique-pod-index": str(index), "grove.io/podcliquescalinggroup-replica-index": "0"}
    return pod(name=f"{NAME}-0-decode-0-decode-wkr-{random}", phase="Running", marks=marks, **more)


def test_a_pod_of_grove_that_takes_the_place_of_one_that_ended_counts_on() -> None:
    first, second = (
        clique_pod(random, state={"running": {}}, last=died(), restarts=1) for random in ("x7k2p", "q9w4z")
    )
    assert DYNAMO.place(first) == DYNAMO.place(second) != DYNAMO.place(clique_pod("m3n8r", index=2))
    of = remembering([first])
    assert "2 ends in 2 pods" in diagnoses(view(second, of=of))[0].message
    assert diagnoses(view(clique_pod("m3n8r", index=2, state={"running": {}}, last=died(), restarts=1), of=of)) == []


def test_replicas_of_a_worker_on_one_node_count_for_themselves() -> None:
    pods = [pod(name=f"{NAME}-decode-{k}", state={"running": {}}, last=died(), restarts=1) for k in "ab"]
    assert diagnoses(view(*pods)) == []


@pytest.mark.parametrize("healthy", [running_pod(), group_pod(1, state={"running": {}})])
def test_what_runs_has_not_ended(healthy: Json) -> None:
    assert terminations.unrecorded(view(healthy), SERVING, no_log) == []
