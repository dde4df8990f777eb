"""Short HTTP requests, and their failures in the words of a target."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from wideloop.manifests.errors import TargetError


def request(url: str, *, method: str = "POST", body: dict[str, Any] | None = None, timeout_s: float = 30.0) -> str:
    """Send a request, with ``body`` as JSON when there is one; returns the answer's text.

    Raises:
        TargetError: it was refused, or nothing answered.
    """
    data = None if method == "GET" else b"" if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    outgoing = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(outgoing, timeout=timeout_s) as answer:
            text: str = answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        message = error.read().decode(errors="replace")[:200]
        raise TargetError(f"{method} {url} was refused with {error.code}: {message}") from error
    except OSError as error:
        raise TargetError(f"{method} {url} failed: {error}") from error
    return text
