"""What tasks read of their run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from wideloop.manifests.errors import Refused
from wideloop.operators.airflow.run_context import params_of


def context(**params: Any) -> Any:
    return {"params": params, "dag": SimpleNamespace(params={"target": None, "keep_hours": None})}


def test_params_of_the_dag_are_given() -> None:
    assert params_of(context(target="local")) == {"target": "local"}


def test_a_param_that_the_dag_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refused, match=r"keep_hour = 3: is not a parameter\. Did you mean 'keep_hours'"):
        params_of(context(target="local", keep_hour=3))


def test_a_param_that_only_other_dags_have_is_left_aside() -> None:
    assert params_of(context(target="local", trials=3))["trials"] == 3
