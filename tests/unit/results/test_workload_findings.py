"""What no gate could pass is refused before it is measured, with the number that works."""

from __future__ import annotations

import numpy as np
import pytest
from wideloop.manifests.workload import Slo, Workload
from wideloop.results.gates import MIN_PLATEAU
from wideloop.results.plateau import Requests, find_plateau
from wideloop.results.workload_findings import workload_findings


def waves(count: int, slots: int) -> Requests:
    """Equally long requests that start together, as a closed loop sends them."""
    start = np.repeat(np.arange(float(count)), slots)
    ones = np.ones(len(start))
    return Requests(start, start, start + 0.3, start + 1.0, 100 * ones, 64 * ones)


@pytest.mark.parametrize("per_slot", [1, 2, 3, 4])
def test_as_many_requests_per_slot_are_wanted_as_a_plateau_needs(per_slot: int) -> None:
    passes = find_plateau(waves(per_slot, 8), 8).seconds >= MIN_PLATEAU
    findings = workload_findings(Workload(requests_per_slot=per_slot), Slo())
    assert (findings == []) == passes
    assert all(f.field == "requests_per_slot" and f.suggestion == "Use 3 or more" for f in findings)


def test_one_token_cannot_be_judged_by_its_time_per_token() -> None:
    (finding,) = workload_findings(Workload(osl=1), Slo(tpot_p99_ms=50))
    assert (finding.field, finding.severity) == ("osl", "error")
    assert "slo_tpot_p99_ms = 50" in finding.rule
    assert workload_findings(Workload(osl=1), None) == []
    assert workload_findings(Workload(osl=2), Slo()) == []
