"""The load that a deployment is measured with, and the service level that it has to meet."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: The load generator of workloads that were stored before a workload named its load generator.
_FIRST_CLIENT = ("aiperf", "0.13.0")


#: Requests of a benchmark: its client writes a line of about 1 kB for each, and the results are read into memory.
MOST_REQUESTS = 200_000
#: Prompt tokens of a benchmark: the load generator keeps them on disk, four bytes each.
MOST_PROMPT_TOKENS = 2 * 10**9


class Workload(BaseModel):
    """A closed-loop load: fixed lengths, one level of concurrency after the other, sent by one load generator.

    Lengths are in tokens. ``requests_per_slot`` is the number of requests each concurrent slot
    sends at a level, so a level sends ``concurrency * requests_per_slot`` requests.

    A workload that was stored without a client is read as one of aiperf 0.13.0, the only client at that time.
    """

    model_config = ConfigDict(frozen=True)

    isl: int = Field(2048, ge=1, le=2**24, description="input sequence length, tokens")
    osl: int = Field(64, ge=1, le=2**24, description="output sequence length, tokens")
    # A connection each: a host has 65,536 ports for one server.
    concurrency: tuple[Annotated[int, Field(ge=1, le=2**16)], ...] = Field((32,), min_length=1, max_length=64)
    requests_per_slot: int = Field(3, ge=1, le=MOST_REQUESTS)
    warmup_requests: int = Field(8, ge=0, le=MOST_REQUESTS)
    seed: int = 1
    client: str = Field(_FIRST_CLIENT[0], min_length=1, description="name of the load generator")
    client_version: str = Field(_FIRST_CLIENT[1], min_length=1, description="version of the load generator")

    @property
    def requests(self) -> int:
        """Requests of all levels and the warm-up."""
        return self.warmup_requests + self.requests_per_slot * sum(self.concurrency)

    @property
    def fingerprint(self) -> str:
        """Equal for equal workloads of the same client: 12 hex digits.

        The client and its version are part of it, except for aiperf 0.13.0: its workloads keep the fingerprints that
        they had before clients were told apart, so measurements stored then stay comparable with today's.
        """
        first = (self.client, self.client_version) == _FIRST_CLIENT
        content = self.model_dump_json(exclude={"client", "client_version"} if first else None)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class Slo(BaseModel):
    """Service-level objective. Times in milliseconds at the 99th percentile."""

    model_config = ConfigDict(frozen=True)

    ttft_p99_ms: float = Field(10_000, gt=0)
    tpot_p99_ms: float = Field(150, gt=0)
    error_rate: float = Field(0.01, ge=0, lt=1)
