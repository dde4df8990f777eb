"""Whether a deployment serves: the answer to a real, short question."""

from __future__ import annotations

import json

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.targets.base import Target

_TIMEOUT_S = 20.0


def unanswered(target: Target, spec: DeploymentSpec) -> str | None:
    """Ask for two tokens; None when they came, else what happened instead."""
    body = {"model": spec.model.name, "max_tokens": 2, "messages": [{"role": "user", "content": "Are you ready?"}]}
    try:
        path = get_engine(spec.engine).generate_path
        text = target.call(spec.name, "frontend", path, body=body, timeout_s=_TIMEOUT_S)
        answer = json.loads(text)
    except (TargetError, ValueError) as error:
        return str(error)
    if not answer.get("choices") or not (answer.get("usage") or {}).get("completion_tokens"):
        return "the frontend answered without a token"
    return None
