"""The namespace and the secret of the hub's token: made on request, for clusters that nobody has prepared."""

from __future__ import annotations

import base64
from typing import Any

from wideloop.manifests.errors import ApiRefused, Refused, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.labels import MANAGED_BY, MANAGER
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.connections import from_connection
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.objects import apply

_KEY = "HF_TOKEN"


def make_namespace(api: Api, options: ClusterOptions) -> str:
    """Make the namespace where it is missing; one that exists stays as it is. Returns what was done.

    Raises:
        TargetError: this account may not.
    """
    name = options.namespace
    path = f"/api/v1/namespaces/{name}"
    if _get(api, path) is not None:
        return f"namespace {name} exists"
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}}}
    try:
        api.request("POST", "/api/v1/namespaces", {"fieldManager": MANAGER}, document)
    except ApiRefused as error:
        if error.status == 409:
            return f"namespace {name} exists"
        raise _may_not(error, f"namespace {name}", f"kubectl create namespace {name}") from error
    return f"made namespace {name}"


def make_hub_secret(api: Api, options: ClusterOptions, token: str | None) -> str:
    """Make the secret that ``hf_token_secret`` names, or give the one of ours another token. Returns what was done.

    Raises:
        Refused: no secret is named, or there is no token.
        TargetError: this account may not, or a secret of that name is not ours.
    """
    name = options.hf_token_secret
    if name is None:
        action = "Set WIDELOOP_CLUSTER__HF_TOKEN_SECRET, e.g. to hf-token-secret"
        raise Refused([_finding("hf_token_secret", None, "names no secret that could be made", action)])
    if not token:
        rule = "is to be made, and there is no token here"
        action = "Name an Airflow connection with the token as its password: WIDELOOP_HF_CONN_ID; or set HF_TOKEN"
        raise Refused([_finding("hf_token_secret", name, rule, action)])
    secret: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": options.namespace, "labels": {MANAGED_BY: MANAGER}},
        "type": "Opaque",
        "data": {_KEY: base64.b64encode(token.encode()).decode()},
    }
    try:
        apply(api, secret)
    except ApiRefused as error:
        by_hand = f"kubectl -n {options.namespace} create secret generic {name} --from-literal={_KEY}=..."
        raise _may_not(error, f"secret {name}", by_hand) from error
    return f"made secret {name} in namespace {options.namespace}, with the token under {_KEY}"


def hub_token(conn_id: str | None) -> str | None:
    """The password of Airflow's connection; without one, ``HF_TOKEN`` or the file of ``hf auth login``.

    Raises:
        Refused: there is no such connection.
    """
    from huggingface_hub import get_token

    token: str | None = from_connection("huggingface", "WIDELOOP_HF_CONN_ID", conn_id) if conn_id else get_token()
    return token


def _get(api: Api, path: str) -> Any:
    try:
        return api.get(path)
    except ApiRefused as error:
        if error.status != 403:
            raise
        return None  # Making it will tell.


def _may_not(error: ApiRefused, what: str, by_hand: str) -> TargetError:
    # Without the refused document: it holds the token.
    return TargetError(
        f"{what} was not made, for the API server refused it with {error.status} {error.reason}. Let an account that "
        f"may make it: {by_hand}"
    )


def _finding(field: str, value: str | None, rule: str, suggestion: str) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=suggestion)
