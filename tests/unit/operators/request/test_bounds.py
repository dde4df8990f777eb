"""Every number of a form has a bound, the same on every way in, so that none takes the memory or time of a task."""

from __future__ import annotations

import pytest
from wideloop.manifests.errors import Refused
from wideloop.operators.request import Request
from wideloop.operators.request.parameters import RUN_OPTIONS, request_parameters
from wideloop.results.workload_findings import workload_findings

#: Larger than anything that exists.
HUGE = (10**9, 10**12, 2**63, 10**30)
_PARAMETERS = {p.name: p for p in request_parameters()}
#: Numbers that are scaled by nothing that a task makes: a seed, a limit on results, a budget.
_HARMLESS = {"seed", "slo_ttft_p99_ms", "slo_tpot_p99_ms", "max_gpu_hours", "max_hours", "least_gain"}


def numbers() -> list[str]:
    """The parameters that take a whole number, or a list of them."""
    taken = []
    for name, parameter in _PARAMETERS.items():
        schema = str(parameter.schema())
        if "'integer'" in schema and name not in _HARMLESS:
            taken.append(name)
    return taken


def given(name: str, value: int) -> object:
    return [value] if isinstance(_PARAMETERS[name].default, list) else value


def test_the_numbers_of_the_form_are_found():
    assert len(numbers()) > 20
    assert {"isl", "concurrency", "cuda_graph_max_bs", "recorded_passes", "trials", "max_redundant_slots"} <= {
        *numbers()
    }


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("name", numbers())
def test_a_number_without_measure_is_refused_by_name(name: str, value: int):
    for way in (Request.from_params, Request.from_file):
        with pytest.raises(Refused, match=name):
            way({name: given(name, value)})


@pytest.mark.parametrize(
    ("concurrency", "per_slot", "isl", "works"),
    [
        ([1024], 200, 1024, "Use at most 195"),
        ([65536], 4, 1024, "Use at most 3"),
        ([65536] * 3, 3, 1024, "fewer or lower levels"),
        ([256], 100, 1_000_000, "Use at most 7"),
    ],
)
def test_a_load_that_its_host_cannot_keep_is_refused_with_one_that_it_can(concurrency, per_slot, isl, works):
    asked = {"concurrency": concurrency, "requests_per_slot": per_slot, "isl": isl}
    request = Request.from_params(asked)
    (finding,) = [f for f in workload_findings(request.workload, request.slo) if f.field == "requests_per_slot"]
    assert works in finding.suggestion


def test_the_options_of_a_run_have_bounds_too():
    keep = next(p for p in RUN_OPTIONS if p.name == "keep_hours")
    with pytest.raises(Refused, match="keep_hours"):
        Request.from_params({keep.name: 10**9})


def test_a_level_that_would_be_paid_for_twice_is_refused_with_the_levels_that_work():
    request = Request.from_params({"concurrency": [8, 4, 8]})
    (finding,) = workload_findings(request.workload, request.slo)
    assert (finding.field, finding.suggestion) == ("concurrency", "Use [4, 8]")
