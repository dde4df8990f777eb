"""When a pod counts as started, alive and ready.

Real engines need long limits: a pod that loads 671 billion parameters does not answer for a long time, and one that
compiles kernels under load may not answer for a minute. Simulated engines start within seconds and are probed more
often.
"""

from __future__ import annotations

from typing import Any

#: Two hours, as the recipes of large models allow.
_LOAD_BUDGET_S = 7200
_SIMULATED_BUDGET_S = 180


def worker_probes(port: int, *, simulated: bool) -> dict[str, Any]:
    """Probes of a worker's main container at ``/live`` and ``/health`` of ``port``."""
    if simulated:
        return {
            "startupProbe": _http("/live", port, period=1, timeout=5, failures=_SIMULATED_BUDGET_S),
            "livenessProbe": _http("/live", port, period=10, timeout=10, failures=6),
            "readinessProbe": _http("/health", port, period=1, timeout=5, failures=6),
        }
    return {
        "startupProbe": _http("/live", port, period=10, timeout=5, failures=_LOAD_BUDGET_S // 10),
        # The operator's default would restart a healthy worker that compiles for 5 s.
        "livenessProbe": _http("/live", port, period=60, timeout=60, failures=10),
        "readinessProbe": _http("/health", port, period=10, timeout=10, failures=6),
    }


def frontend_probes(port: int) -> dict[str, Any]:
    """Probes of the frontend, which starts within seconds, long before any worker."""
    return {
        "startupProbe": _http("/live", port, period=2, timeout=5, failures=150),
        "livenessProbe": _http("/live", port, period=10, timeout=10, failures=6),
        "readinessProbe": _http("/health", port, period=2, timeout=5, failures=6),
    }


def _http(path: str, port: int, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    """A probe; all times in seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
