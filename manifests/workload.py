"""What is asked of a deployment, and how well it has to answer."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Workload(BaseModel):
    """A closed-loop load: fixed lengths, one level of concurrency after the other.

    Lengths are in tokens. ``requests_per_slot`` is the number of requests each concurrent slot
    sends at a level, so a level sends ``concurrency * requests_per_slot`` requests.
    """

    model_config = ConfigDict(frozen=True)

    isl: int = Field(2048, ge=1, description="input sequence length, tokens")
    osl: int = Field(64, ge=1, description="output sequence length, tokens")
    concurrency: tuple[Annotated[int, Field(ge=1)], ...] = Field((32,), min_length=1)
    requests_per_slot: int = Field(3, ge=1)
    warmup_requests: int = Field(8, ge=0)
    seed: int = 1

    @property
    def fingerprint(self) -> str:
        """Equal for equal workloads: 12 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


class Slo(BaseModel):
    """Service-level objective. Times in milliseconds at the 99th percentile."""

    model_config = ConfigDict(frozen=True)

    ttft_p99_ms: float = Field(10_000, gt=0)
    tpot_p99_ms: float = Field(150, gt=0)
    error_rate: float = Field(0.01, ge=0, lt=1)
