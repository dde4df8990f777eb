"""Which API groups a cluster serves: by these, operators and controllers tell each other's presence."""

from __future__ import annotations

from collections.abc import Mapping

from wideloop.manifests.errors import ApiRefused
from wideloop.operators.targets.kubernetes.api import Api

#: Versions of each served group, the preferred one first.
ApiGroups = Mapping[str, tuple[str, ...]]


def api_groups(api: Api) -> ApiGroups | None:
    """The served groups; None where this account may not ask, which the usual roles let everybody."""
    try:
        listed = api.request("GET", "/apis")["groups"]
    except ApiRefused as error:
        if error.status != 403:
            raise
        return None
    return {group["name"]: _versions(group) for group in listed}


def _versions(group: Mapping[str, object]) -> tuple[str, ...]:
    preferred = group.get("preferredVersion")
    versions = group.get("versions")
    first = [preferred["version"]] if isinstance(preferred, dict) and "version" in preferred else []
    listed = [v["version"] for v in versions if isinstance(v, dict)] if isinstance(versions, list) else []
    return tuple(dict.fromkeys([*first, *listed]))
