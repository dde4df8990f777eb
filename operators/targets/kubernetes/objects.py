"""Objects by kind and name: applied without ever touching one that this project did not make."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from wideloop.manifests.errors import ApiRefused, ApiUnreachable, TargetError
from wideloop.manifests.kubernetes.labels import MANAGED_BY, MANAGER, is_ours
from wideloop.operators.targets.kubernetes.api import APPLY, Api, Json

#: Plural names where they are not the lower-case kind with an "s".
_PLURALS = {"StorageClass": "storageclasses", "PriorityClass": "priorityclasses"}
#: What a log may take to come. It is the answer of a node, and one that is gone gives none.
_LOG_S = 10.0
#: Refusals of a log that may be of the moment.
_LOG_PASSING = (429, 500, 502, 503, 504)
#: Begin of the only line that stands for a log which its node does not give.
UNREADABLE = "the log cannot be read: "
_POLL_S = 0.5
_GONE_S = 60.0
_MAX_ATTEMPTS = 3


def collection(api_version: str, kind: str, namespace: str | None) -> str:
    """The path of all objects of a kind; ``namespace`` is None for kinds of the whole cluster."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    place = "" if namespace is None else f"/namespaces/{namespace}"
    return f"{root}{place}/{_PLURALS.get(kind, kind.lower() + 's')}"


def path_of(document: Mapping[str, Any]) -> str:
    """The path of one object."""
    metadata = document["metadata"]
    return collection(document["apiVersion"], document["kind"], metadata.get("namespace")) + f"/{metadata['name']}"


def replaced(refusal: ApiRefused) -> bool:
    """Whether a change was refused because the object that it names by its uid is gone, or another has its name."""
    return refusal.status in (404, 409) or (refusal.status == 422 and "metadata.uid" in refusal.message)


def apply(api: Api, document: Mapping[str, Any]) -> Json:
    """Create an object, or bring the existing one to what ``document`` describes; returns it as it then is.

    Raises:
        TargetError: an object of that name exists that this project did not make; it is left as it is.
        ApiRefused: the API server does not take it.
    """
    path = path_of(document)
    metadata = document["metadata"]
    everything = collection(document["apiVersion"], document["kind"], metadata.get("namespace"))
    for _ in range(_MAX_ATTEMPTS):
        existing = settled(api, path)
        try:
            if existing is None:
                # Not by applying, which would merge into what another may have made since the look above.
                return api.request("POST", everything, {"fieldManager": MANAGER}, document)
            require_ours(existing)
            pinned = {**document, "metadata": {**metadata, "uid": existing["metadata"]["uid"]}}
            query = {"fieldManager": MANAGER, "force": "true"}
            return api.request("PATCH", path, query, pinned, content_type=APPLY)
        except ApiRefused as error:
            if error.status != 409:
                raise
            # Made, or made anew, since the look: look again.
            conflict = error
    raise conflict


def settled(api: Api, path: str) -> Json | None:
    """An object that stays, None when there is none: what would be made of one that is being deleted goes with it.

    Raises:
        TargetError: it is being deleted and stays, or was not made by this project.
    """
    existing = api.get(path)
    if existing is None or "deletionTimestamp" not in existing["metadata"]:
        return existing
    require_ours(existing)
    if not wait_gone(api, path, _GONE_S):
        held = ", ".join(existing["metadata"].get("finalizers") or ()) or "the pods below it"
        raise TargetError(
            f"{existing['kind']} {existing['metadata']['name']} is being deleted and exists after {_GONE_S:.0f} s. "
            f"It waits for {held}: look whether the controller that removes that runs"
        )
    return None


def require_ours(existing: Mapping[str, Any]) -> None:
    """Refuse an object that does not carry the project's label.

    Raises:
        TargetError: it does not.
    """
    if is_ours(existing):
        return
    metadata = existing["metadata"]
    marked = (metadata.get("labels") or {}).get(MANAGED_BY)
    by = f"managed by {marked!r}" if marked else f"without the label {MANAGED_BY}={MANAGER}"
    raise TargetError(
        f"{existing['kind']} {metadata['name']} in namespace {metadata.get('namespace')} exists and is not ours "
        f"({by}); it was left as it is. Delete or rename it, or use another namespace"
    )


def delete(
    api: Api,
    path: str,
    *,
    propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    uid: str = "",
    version: str = "",
    grace_s: int | None = None,
) -> bool:
    """Ask for an object's removal; returns whether there was one.

    Args:
        uid: remove that very object only.
        version: only if nobody has changed it since it was read with this resource version.
        grace_s: how long a pod may take to end; None: as it says itself.
    """
    body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
    if grace_s is not None:
        body["gracePeriodSeconds"] = grace_s
    pinned = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
    if pinned:
        body["preconditions"] = pinned
    try:
        api.request("DELETE", path, None, body)
    except ApiRefused as error:
        if error.reason == "NotFound" or (pinned and error.status == 409):
            return False
        raise
    return True


def wait_gone(api: Api, path: str, timeout_s: float, *, uid: str = "") -> bool:
    """Whether an object, or that very one, is gone within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while (existing := api.get(path)) is not None and uid in ("", existing["metadata"]["uid"]):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def log_lines(
    api: Api,
    namespace: str,
    pod: str,
    *,
    container: str = "",
    tail: int | None = None,
    previous: bool = False,
    first_bytes: int | None = None,
) -> tuple[str, ...]:
    """The log of a pod's container so far, or its first bytes; nothing when there is none (yet).

    Where the node does not answer, the log is one line that starts with :data:`UNREADABLE`: callers report other facts
    about the pod as well, and must not wait.
    """
    wanted = {
        "container": container or None,
        "tailLines": tail,
        "previous": "true" if previous else None,
        "limitBytes": first_bytes,
    }
    query = {key: value for key, value in wanted.items() if value is not None}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    deadline = time.monotonic() + _LOG_S
    while True:
        try:
            # As a proxied request: a silent node is no outage of the API server, which would be waited for longer.
            left = max(deadline - time.monotonic(), _POLL_S)
            with api.stream("GET", path, query, timeout_s=left, proxied=True) as answer:
                return tuple(answer.read().decode(errors="replace").splitlines())
        except ApiUnreachable:
            raise
        except TargetError as error:
            status = error.status if isinstance(error, ApiRefused) else None
            # The container has not started, or its node has forgotten it.
            if status in (400, 404):
                return ()
            if status is not None and status not in _LOG_PASSING:
                raise
            if time.monotonic() + _POLL_S > deadline:
                return (f"{UNREADABLE}{error}",)
        time.sleep(_POLL_S)


def follow_log(api: Api, namespace: str, pod: str, *, since: str = "", timeout_s: float = 3600.0) -> Iterator[str]:
    """A pod's log lines as they come, each with its RFC 3339 time in front, until it ends or the connection does.

    Args:
        since: time of the last line seen, to go on after a dropped connection.

    Raises:
        TargetError: the log cannot be read now. It is the node's answer, which the API server only hands on: nothing
            of it is asked for twice.
    """
    query: dict[str, Any] = {"follow": "true", "timestamps": "true"}
    if since:
        query["sinceTime"] = since
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    with api.stream("GET", path, query, timeout_s=timeout_s, proxied=True) as answer:
        rest = b""
        for chunk in answer.stream(4096):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                text = line.decode(errors="replace")
                if text.split(" ", 1)[0] > since:
                    yield text
        if rest:
            yield rest.decode(errors="replace")
