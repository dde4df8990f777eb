"""The activity of a simulated worker, from the metrics that the mocker and the frontend publish."""

from __future__ import annotations

import re
import urllib.request
from collections import defaultdict
from pathlib import Path

from wideloop.manifests.hardware import Role

TIMEOUT_S = 5
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{[^}]*\})? (\S+)", re.MULTILINE)
FRONTEND_FILE = "frontend.url"


def fetch(url: str) -> str:
    """The text of a metrics page.

    Raises:
        OSError: no server answers.
    """
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # loopback only: our own processes
        text: str = response.read().decode()
    return text


def totals(text: str, label: str = "") -> dict[str, float]:
    """Sum of each metric over its label sets that contain ``label``."""
    sums: dict[str, float] = defaultdict(float)
    for name, labels, value in _SAMPLE.findall(text):
        if label in labels:
            sums[name] += float(value)
    return sums


class Counters:
    """Reads one worker's activity.

    Args:
        system_url: the mocker's own HTTP server.
        shared_dir: folder with the file in which the frontend wrote its address.
    """

    def __init__(self, role: Role, system_url: str, shared_dir: Path) -> None:
        self._role = role
        self._metrics_url = f"{system_url}/metrics"
        self._frontend = shared_dir / FRONTEND_FILE

    def metrics(self) -> str:
        """The mocker's metrics page; empty while it starts."""
        try:
            return fetch(self._metrics_url)
        except OSError:
            return ""

    def inflight(self) -> int:
        """Requests the worker holds now."""
        return int(totals(self.metrics()).get("dynamo_component_inflight_requests", 0))

    def tokens(self) -> float:
        """Tokens forwarded since the start.

        Generated tokens are the mocker's own count (one first token per request, one interval per further
        token). It does not count prompt tokens: those are its requests times the mean prompt length that
        the frontend's router measured in the prefill phase.
        """
        own = totals(self.metrics())
        generated = own.get("sglang:inter_token_latency_seconds_count", 0) + own.get("sglang:num_requests_total", 0)
        if self._role == "decode":
            return generated
        prompts = own.get("dynamo_component_requests_total", 0) * self._mean_prompt()
        return prompts if self._role == "prefill" else prompts + generated

    def _mean_prompt(self) -> float:
        try:
            page = fetch(self._frontend.read_text().strip() + "/metrics")
        except OSError:
            return 0.0
        name = "dynamo_frontend_input_sequence_tokens"
        sums = totals(page)
        count = sums.get(f"{name}_count", 0)
        return sums.get(f"{name}_sum", 0) / count if count else 0.0
