"""What registries answer, and what is made of it. A real one is asked in tests/cluster/test_image.py."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wideloop.operators.targets.kubernetes.registry import Reference, Registry, RegistryRefused, RegistryUnreachable

DIGEST = "sha256:" + "a" * 64
Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(answer: Callable[[str, str, str], Answer]) -> Iterator[str]:
    """Host and port of a server whose ``answer(method, path, authorization)`` gives status, headers and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self.command, self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def login(host: str, user: str = "me") -> str:
    return json.dumps({"auths": {host: {"username": user, "password": "secret"}}})


@pytest.mark.parametrize(
    ("text", "host", "name", "tag", "digest"),
    [
        ("busybox", "docker.io", "library/busybox", "latest", ""),
        ("moby/buildkit:v0.25.1-rootless", "docker.io", "moby/buildkit", "v0.25.1-rootless", ""),
        ("nvcr.io/nvidia/x/y:1.6.1", "nvcr.io", "nvidia/x/y", "1.6.1", ""),
        ("localhost/x", "localhost", "x", "latest", ""),
        ("host:5000/x:1@" + DIGEST, "host:5000", "x", "1", DIGEST),
        ("host:5000/x@" + DIGEST, "host:5000", "x", "", DIGEST),
    ],
)
def test_references_are_read_as_container_tools_read_them(
    text: str, host: str, name: str, tag: str, digest: str
) -> None:
    assert Reference.parse(text) == (host, name, tag, digest)


_part = st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True)


@given(
    st.sampled_from(["nvcr.io", "localhost", "10.0.0.1:5000"]),
    st.lists(_part, min_size=1, max_size=4),
    st.one_of(st.just(""), _part),
    st.sampled_from(["", DIGEST]),
)
def test_a_reference_survives_being_written_and_read(host: str, parts: list[str], tag: str, digest: str) -> None:
    written = f"{host}/{'/'.join(parts)}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    read = Reference.parse(written)
    assert Reference.parse(str(read)) == read
    assert str(read) == (written if tag or digest else f"{written}:latest")


def test_the_login_is_given_to_whom_the_registry_sends_us_and_the_token_to_the_registry() -> None:
    seen: list[str] = []

    def answer(method: str, path: str, authorization: str) -> Answer:
        seen.append(f"{method} {path.partition('?')[0]} {authorization.partition(' ')[0]}")
        if path.startswith("/token"):
            assert "service=reg&scope=repository%3Ateam%2Fx%3Apull" in path
            assert base64.b64decode(authorization.removeprefix("Basic ")) == b"me:secret"
            return 200, {}, b'{"token": "t1"}'
        if authorization == "Bearer t1":
            return 200, {"Docker-Content-Digest": DIGEST}, b""
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{host}/token",service="reg"'}, b""

    with answering(answer) as host:
        assert Registry(login(host)).digest(f"{host}/team/x:1") == DIGEST
    manifest = "HEAD /v2/team/x/manifests/1"
    assert seen == [f"{manifest} ", "GET /token Basic", f"{manifest} Bearer"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the login in the registry secret is not accepted"),
        (403, "the login in the registry secret is not accepted"),
        (400, "an error of its own"),
    ],
)
def test_a_registry_that_refuses(status: int, said: str) -> None:
    with (
        answering(lambda *_: (status, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as host,
        pytest.raises(RegistryRefused, match=rf"refused {host}/x:1 with {status}: {said}"),
    ):
        Registry(login(host)).digest(f"{host}/x:1")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wideloop.operators.targets.kubernetes.registry._PAUSES_S", (0.01, 0.01))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_has_no_time_for_a_moment_is_asked_again(impatient: None, status: int) -> None:
    replies = [(status, {"Retry-After": "0"}, b"")] * 2 + [(200, {"Docker-Content-Digest": DIGEST}, b"")]
    with answering(lambda *_: replies.pop(0)) as host:
        assert Registry().digest(f"{host}/x:1") == DIGEST


@pytest.mark.parametrize("wait", ["600", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_a_registry_that_stays_without_time_is_not_reached_and_refuses_nothing(impatient: None, wait: str) -> None:
    asked: list[str] = []

    def limited(method: str, *_: str) -> Answer:
        asked.append(method)
        return 429, {"Retry-After": wait} if wait else {}, b""

    with answering(limited) as host, pytest.raises(RegistryUnreachable, match="limits the rate of requests"):
        Registry().digest(f"{host}/x:1")
    assert len(asked) == (1 if wait else 3)


def test_a_digest_that_the_registry_does_not_say_is_that_of_the_manifest() -> None:
    body = b'{"schemaVersion": 2}'
    with answering(lambda method, *_: (200, {}, body if method == "GET" else b"")) as host:
        assert Registry().digest(f"{host}/x:1") == f"sha256:{hashlib.sha256(body).hexdigest()}"
    silent = answering(lambda method, *_: (200 if method == "HEAD" else 404, {}, b""))
    with silent as host, pytest.raises(RegistryUnreachable, match="does not say its digest"):
        Registry().digest(f"{host}/x:1")


def test_an_image_that_is_not_there_and_a_registry_that_is_not() -> None:
    with answering(lambda *_: (404, {}, b"")) as host:
        assert Registry().digest(f"{host}/x:1") is None
    with pytest.raises(RegistryUnreachable, match=rf"{host} does not answer from here"):
        Registry().digest(f"{host}/x:1")


def test_a_token_service_that_refuses_or_is_away() -> None:
    def answer(method: str, path: str, authorization: str) -> Answer:
        if path.startswith("/token"):
            return 403, {}, b""
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{realm or host}/token"'}, b""

    realm = ""
    with answering(answer) as host:
        with pytest.raises(RegistryRefused, match=f"there is no login for {host}"):
            Registry().digest(f"{host}/x:1")
        realm = "127.0.0.1:9"
        with pytest.raises(RegistryUnreachable, match="token service"):
            Registry().digest(f"{host}/x:1")


def test_a_secret_that_is_no_docker_config_is_said_to_be_none() -> None:
    for text in ("[]", "nonsense", '{"auths": []}'):
        with pytest.raises(RegistryRefused, match=r"holds no \.dockerconfigjson"):
            Registry(text)
    hub = Registry('{"auths": {"https://index.docker.io/v1/": {"auth": "eDp5"}}}')
    assert hub._logins == {"docker.io": "eDp5"}


def _architectures(documents: dict[str, object]) -> frozenset[str]:
    def answer(_method: str, path: str, _authorization: str) -> Answer:
        document = documents.get(path.rpartition("/")[2])
        return (404, {}, b"") if document is None else (200, {}, json.dumps(document).encode())

    with answering(answer) as host:
        return Registry().architectures(f"{host}/x:1")


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (
            {
                "1": {
                    "manifests": [
                        {"platform": {"architecture": "amd64", "os": "linux"}},
                        {"platform": {"architecture": "arm64", "os": "linux"}},
                        {"platform": {"architecture": "unknown", "os": "unknown"}},
                        {},
                    ]
                }
            },
            {"amd64", "arm64"},
        ),
        ({"1": {"config": {"digest": DIGEST}}, DIGEST: {"architecture": "arm64"}}, {"arm64"}),
        ({"1": {"config": {"digest": DIGEST}}}, set()),
        ({"1": {"schemaVersion": 1}}, set()),
        ({"1": []}, set()),
        ({}, set()),
    ],
)
def test_architectures_come_from_the_index_or_from_the_images_configuration(
    documents: dict[str, object], expected: set[str]
) -> None:
    assert _architectures(documents) == expected


def test_a_login_is_not_handed_on_to_the_store_of_blobs() -> None:
    """Object stores refuse a request that is authorised twice."""
    seen: list[str] = []

    def store(_method: str, _path: str, authorization: str) -> Answer:
        seen.append(authorization)
        return 200, {}, b'{"architecture": "arm64"}'

    with answering(store) as elsewhere:

        def answer(_method: str, path: str, authorization: str) -> Answer:
            if not authorization:
                return 401, {"WWW-Authenticate": "Basic"}, b""
            if "/blobs/" in path:
                return 307, {"Location": f"http://{elsewhere}/blob"}, b""
            return 200, {}, json.dumps({"config": {"digest": DIGEST}}).encode()

        with answering(answer) as host:
            assert Registry(login(host)).architectures(f"{host}/x:1") == {"arm64"}
    assert seen == [""]
