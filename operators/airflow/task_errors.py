"""From an error of a step to the exception by which Airflow does the right thing."""

from __future__ import annotations

import logging
from datetime import timedelta

log = logging.getLogger(__name__)
_WAIT_FOR_ACCELERATORS = timedelta(seconds=10)


def fail_at_once(error: Exception) -> Exception:
    """For input that stays wrong however often the task is tried: fail without spending the retries."""
    from airflow.sdk.exceptions import AirflowFailException

    return AirflowFailException(str(error))


def reschedule(busy: Exception) -> Exception:
    """For accelerators that another live deployment holds: try again later, without spending a retry."""
    from datetime import UTC, datetime

    from airflow.sdk.exceptions import AirflowRescheduleException

    log.info(busy)
    return AirflowRescheduleException(datetime.now(UTC) + _WAIT_FOR_ACCELERATORS)  # type: ignore[no-untyped-call]
