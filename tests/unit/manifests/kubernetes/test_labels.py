from __future__ import annotations

from wideloop.manifests.kubernetes.labels import follower_annotation, followers

ONE = {"dag_id": "wideep_image", "run_id": "manual__2026-11-22T05:00:00+00:00", "installation": "ours"}


def test_each_run_that_waits_for_a_job_has_an_annotation_of_its_own() -> None:
    again, other = follower_annotation(**ONE), follower_annotation(**ONE | {"installation": "theirs"})
    assert follower_annotation(**ONE) == again
    assert not again.keys() & other.keys()
    found = followers({"metadata": {"annotations": again | other | {"wideloop/result": "{}"}}})
    assert sorted(f["installation"] for f in found) == ["ours", "theirs"]
    assert ONE in found


def test_their_names_are_ones_that_kubernetes_takes() -> None:
    (key,) = follower_annotation("d" * 250, "ü" * 250)
    assert len(key.partition("/")[2]) <= 63 and key.isascii()


def test_nobody_waits_for_what_says_nothing() -> None:
    assert followers({"metadata": {}}) == []
