"""Which digest a container registry has under a reference: the only question that is asked of registries.

Protocol: OCI distribution specification 1.1 (``HEAD /v2/<name>/manifests/<reference>``) with the token
authentication that Docker's registry documents.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Mapping
from email.message import Message
from typing import Any, NamedTuple

from wideloop.manifests.errors import TargetError

_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HUB = "docker.io"
_TIMEOUT_S = 10.0
#: Seconds between tries of a request that a registry had no time for, and the longest that it may ask to wait.
_PAUSES_S = (0.5, 1.0, 2.0)
_LONGEST_WAIT_S = 10.0
_LIMITED = 429
_FAILED = 500
#: Bytes of a manifest; the specification recommends a limit of 4 MiB.
_LARGEST = 4 << 20
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class RegistryRefused(TargetError):
    """A registry refused a request: wrong credentials, or no permission."""


class RegistryUnreachable(TargetError):
    """A registry does not answer from here, or has no time. Nodes may reach it all the same, or have the image."""


class Reference(NamedTuple):
    """``host/name:tag@digest`` taken apart; ``tag`` is ``latest`` where there is neither tag nor digest."""

    host: str
    name: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference as container tools do: a first part with a dot, a port or ``localhost`` is a host."""
        rest, _, digest = text.partition("@")
        first, slash, after = rest.partition("/")
        host, path = (first, after) if slash and (set(".:") & set(first) or first == "localhost") else (_HUB, rest)
        name, _, tag = path.partition(":")
        if host == _HUB and "/" not in name:
            name = f"library/{name}"
        return cls(host, name, tag or ("" if digest else "latest"), digest)

    @property
    def repository(self) -> str:
        return f"{self.host}/{self.name}"

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


class Registry:
    """Registries, with the credentials for them.

    Args:
        docker_config: content of a ``.dockerconfigjson``, for the registries that require a login.
        plain_http: hosts that are asked by HTTP; those of this machine's loopback always are.
    """

    def __init__(self, docker_config: str = "", plain_http: Collection[str] = ()) -> None:
        self._logins = _logins(docker_config)
        self._plain_http = plain_http

    def digest(self, image: str) -> str | None:
        """``sha256:...`` of what ``image`` names now; None when the registry has nothing of that name.

        Raises:
            RegistryRefused: it wants other credentials.
            RegistryUnreachable: it does not answer, limits the rate of requests, or fails by itself.
        """
        reference = Reference.parse(image)
        url = f"{self._base(reference.host)}/v2/{reference.name}/manifests/{reference.digest or reference.tag}"
        headers = {"Accept": _MANIFESTS}
        status, answer, _ = self._ask("HEAD", url, headers, reference)
        if status == 401:
            headers |= self._authorization(answer.get("WWW-Authenticate", ""), reference)
            status, answer, _ = self._ask("HEAD", url, headers, reference)
        if status == 404:
            return None
        if status != 200:
            raise RegistryRefused(_refusal(reference, status, has_login=reference.host in self._logins))
        return answer.get("Docker-Content-Digest") or reference.digest or self._computed(url, headers, reference)

    def _computed(self, url: str, headers: Mapping[str, str], reference: Reference) -> str:
        """The digest of a manifest whose registry does not say it: that of its bytes."""
        status, answer, body = self._ask("GET", url, headers, reference)
        if status != 200:
            raise RegistryUnreachable(f"the registry {reference.host} has {reference} and does not say its digest")
        return answer.get("Docker-Content-Digest") or f"sha256:{hashlib.sha256(body).hexdigest()}"

    def architectures(self, image: str) -> frozenset[str]:
        """Architectures that ``image`` can run on, as Kubernetes names them; empty where the registry does not tell.

        Raises:
            RegistryRefused, RegistryUnreachable: as :meth:`digest`.
        """
        reference = Reference.parse(image)
        manifest = self._document(reference, f"manifests/{reference.digest or reference.tag}")
        if "manifests" in manifest:
            platforms = [entry.get("platform") or {} for entry in manifest["manifests"]]
        else:
            config = (manifest.get("config") or {}).get("digest")
            platforms = [self._document(reference, f"blobs/{config}")] if config else []
        # Builders list attestations under the architecture "unknown".
        return frozenset(p["architecture"] for p in platforms if p.get("architecture") not in (None, "", "unknown"))

    def _document(self, reference: Reference, path: str) -> dict[str, Any]:
        """A JSON document of a repository; empty where it is not there or no JSON object."""
        url = f"{self._base(reference.host)}/v2/{reference.name}/{path}"
        headers = {"Accept": f"{_MANIFESTS}, application/json"}
        status, answer, body = self._ask("GET", url, headers, reference)
        if status == 401:
            headers |= self._authorization(answer.get("WWW-Authenticate", ""), reference)
            status, answer, body = self._ask("GET", url, headers, reference)
        if status not in (200, 404):
            raise RegistryRefused(_refusal(reference, status, has_login=reference.host in self._logins))
        try:
            document = json.loads(body) if status == 200 else {}
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def _base(self, host: str) -> str:
        if host == _HUB:
            return "https://registry-1.docker.io"
        plain = host in self._plain_http or host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK
        return f"{'http' if plain else 'https'}://{host}"

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], reference: Reference
    ) -> tuple[int, Message, bytes]:
        """Status, headers and body of an answer; what passes within seconds is tried again."""
        request = urllib.request.Request(url, headers=dict(headers), method=method)
        for pause_s in (*_PAUSES_S, None):
            try:
                with urllib.request.build_opener(_OtherHost).open(request, timeout=_TIMEOUT_S) as answer:
                    return answer.status, answer.headers, answer.read(_LARGEST)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != _LIMITED and error.code < _FAILED:
                    return error.code, error.headers, b""
                wait_s = _retry_after_s(error.headers)
                if pause_s is None or wait_s > _LONGEST_WAIT_S:
                    raise RegistryUnreachable(_busy(reference, error.code, wait_s)) from error
                time.sleep(max(pause_s, wait_s))
            except OSError as error:
                raise RegistryUnreachable(
                    f"the registry {reference.host} does not answer from here: {error}"
                ) from error
        raise AssertionError("the last try returns or raises")

    def _authorization(self, challenge: str, reference: Reference) -> dict[str, str]:
        """The header that answers a 401: a token where the registry names who issues them, else the login itself."""
        login = self._logins.get(reference.host)
        basic = {"Authorization": f"Basic {login}"} if login else {}
        if not challenge.lower().startswith("bearer"):
            return basic
        terms = dict(_CHALLENGE.findall(challenge))
        query = {"service": terms.get("service", ""), "scope": f"repository:{reference.name}:pull"}
        url = f"{terms.get('realm', '')}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=basic), timeout=_TIMEOUT_S) as answer:
                issued = json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == _LIMITED or error.code >= _FAILED:
                raise RegistryUnreachable(_busy(reference, error.code, _retry_after_s(error.headers))) from error
            raise RegistryRefused(_refusal(reference, error.code, has_login=bool(login))) from error
        except (OSError, ValueError) as error:
            raise RegistryUnreachable(f"the token service of {reference.host} does not answer: {error}") from error
        return {"Authorization": f"Bearer {issued.get('token') or issued.get('access_token', '')}"}


class _OtherHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps the registry's authorization to itself: stores of blobs refuse a second one."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> Any:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


def _retry_after_s(headers: Message) -> float:
    """Seconds that an answer asks to wait; a date, which the header may be as well, counts as long."""
    text = headers.get("Retry-After", "").strip()
    return 0.0 if not text else float(text) if text.isdigit() else 2 * _LONGEST_WAIT_S


def _busy(reference: Reference, status: int, wait_s: float) -> str:
    why = "limits the rate of requests" if status == _LIMITED else "fails by itself"
    when = f"; it asks to wait {wait_s:.0f} s" if wait_s else ""
    return f"the registry {reference.host} {why} ({status}){when}. Log in to it, use a mirror, or try again later"


def _refusal(reference: Reference, status: int, *, has_login: bool) -> str:
    if status in (401, 403):
        login = (
            "the login in the registry secret is not accepted"
            if has_login
            else f"there is no login for {reference.host}"
        )
        action = (
            f"Make a secret with `kubectl create secret docker-registry NAME --docker-server={reference.host} ...` and "
            "give its name as registry_secret"
        )
        return f"the registry refused {reference} with {status}: {login}. {action}"
    return f"the registry refused {reference} with {status}: an error of its own. Look at its log, then try again"


def _logins(docker_config: str) -> dict[str, str]:
    """Base64 of ``user:password`` by host. Docker writes its hub's host as a URL."""
    try:
        entries = json.loads(docker_config or "{}").get("auths", {})
        logins = {}
        for server, entry in entries.items():
            host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
            login = entry.get("auth") or _encoded(entry.get("username", ""), entry.get("password", ""))
            logins[_HUB if host == "index.docker.io" else host] = login
    except (ValueError, AttributeError) as error:
        raise RegistryRefused(
            "the registry secret holds no .dockerconfigjson: make it with `kubectl create secret docker-registry`"
        ) from error
    return logins


def _encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
