"""How this process reaches the API server: Airflow connection, kubeconfig and context, or the pod it runs in."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding, unknown
from wideloop.operators.targets.connections import from_connection

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SETTING = "WIDELOOP_KUBECONFIG"


class Connection(NamedTuple):
    """An authenticated client, the namespace its context names (None: none), and where both come from.

    ``is_renewed``: its credentials are made again when they end, by a plug-in or the node's kubelet.
    """

    client: ApiClient
    namespace: str | None
    source: str
    is_renewed: bool = False

    @property
    def ends_at(self) -> datetime | None:
        """When its token ends; None where it is renewed, or no token that says so."""
        keys = self.client.configuration.api_key
        # The client's versions name the key differently.
        token = str(keys.get("BearerToken") or keys.get("authorization") or "").removeprefix("Bearer ")
        _head, _, rest = token.partition(".")
        body, signed, _signature = rest.partition(".")
        if self.is_renewed or not signed:
            return None
        try:
            content = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            return datetime.fromtimestamp(content["exp"], UTC)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None


def connect(kubeconfig: Path | None, context: str | None, conn_id: str | None = None) -> Connection:
    """The connection that the settings describe.

    With ``conn_id``, that of Airflow's connection of this name. Without it and without a kubeconfig: the pod's service
    account when this process runs in one, else ``KUBECONFIG`` or ``~/.kube/config``. Nothing is sent yet.

    Raises:
        Refused: there is no such connection, file or context, or it cannot be read.
    """
    if conn_id:
        client, namespace = from_connection("kubernetes", "WIDELOOP_KUBERNETES_CONN_ID", conn_id)
        return Connection(client, namespace, f"Airflow connection {conn_id}")
    if kubeconfig is None and _in_a_pod():
        return _in_cluster()
    named = _named(kubeconfig)
    files = _files(named)
    if not any(file.is_file() for file in files):
        raise Refused([_unusable(named, "there is no such kubeconfig")])
    return _from_files(os.pathsep.join(map(str, files)), named, context)


def is_configured(kubeconfig: Path | None, conn_id: str | None = None) -> bool:
    """Whether there is anything to connect with: a setting, a pod's service account, or a kubeconfig."""
    return (
        bool(conn_id) or kubeconfig is not None or _in_a_pod() or any(file.is_file() for file in _files(_named(None)))
    )


def _in_a_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_IN_CLUSTER / "token").is_file()


def _named(kubeconfig: Path | None) -> str:
    return str(kubeconfig) if kubeconfig is not None else os.environ.get("KUBECONFIG") or "~/.kube/config"


def _files(named: str) -> list[Path]:
    """KUBECONFIG may name several files, of which only some need exist."""
    return [Path(part).expanduser() for part in named.split(os.pathsep) if part]


def _in_cluster() -> Connection:
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import ConfigException, load_incluster_config

    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException as error:
        raise Refused([_unusable(str(_IN_CLUSTER), f"the pod's service account cannot be used: {error}")]) from error
    namespace = (_IN_CLUSTER / "namespace").read_text().strip()
    return Connection(ApiClient(configuration), namespace, "the pod's service account", is_renewed=True)


def _from_files(files: str, named: str, context: str | None) -> Connection:
    import yaml
    from kubernetes.config import ConfigException, list_kube_config_contexts, new_client_from_config

    try:
        contexts, current = list_kube_config_contexts(config_file=files)
        by_name = {c["name"]: c["context"] for c in contexts}
        if context and context not in by_name:
            raise Refused([unknown("WIDELOOP_KUBE_CONTEXT", context, by_name)])
        chosen = context or current["name"]
        client = new_client_from_config(config_file=files, context=chosen, persist_config=False)
        documents = [yaml.safe_load(Path(file).read_text()) for file in files.split(os.pathsep) if Path(file).is_file()]
        entries = [entry for document in documents for entry in document.get("users") or ()]
        users = [entry["user"] or {} for entry in entries if entry["name"] == by_name[chosen].get("user")]
    # Its loader raises whatever it stumbles over in a damaged file.
    except (ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise Refused(
            [_unusable(named, f"cannot be used as a kubeconfig: {type(error).__name__}: {reason}")]
        ) from error
    is_renewed = any(key in user for user in users for key in ("exec", "auth-provider", "tokenFile"))
    return Connection(client, by_name[chosen].get("namespace"), f"context {chosen} of {named}", is_renewed)


def _unusable(named: str, rule: str) -> Finding:
    suggestion = f"Set {_SETTING} to a file with which `kubectl --kubeconfig FILE get pods` works, e.g. ~/.kube/config"
    return Finding(field=_SETTING, value=named, rule=rule, suggestion=suggestion)
