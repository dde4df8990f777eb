"""A real PostgreSQL server of our own: initdb into a temporary folder, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

USER = "wideloop"
PASSWORD = "s3cret-word"


@dataclass(frozen=True)
class Server:
    port: int

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        conninfo = f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD} dbname={database}"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(statement)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The name of an empty database that is dropped afterwards."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def binaries() -> Path | None:
    """The folder of initdb and postgres: on PATH, or where Debian keeps the newest version."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    return versions[-1].parent if versions else None


@contextlib.contextmanager
def server(bin_dir: Path) -> Iterator[Server]:
    """Run PostgreSQL for as long as the context lasts."""
    who = _unprivileged()
    home = Path(tempfile.mkdtemp(prefix="wideloop-pg-"))
    try:
        password_file = home / "password"
        password_file.write_text(PASSWORD)
        if who:
            for path in (home, password_file):
                shutil.chown(path, who["user"], who["group"])
        data = home / "data"
        initdb = [bin_dir / "initdb", "-D", data, "-U", USER, "-N", "--no-locale", "-E", "UTF8"]
        initdb += ["--auth=scram-sha-256", f"--pwfile={password_file}"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=home, **who)
        port = _free_port()
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={home}", "fsync=off", f"port={port}"]
        argv = [bin_dir / "postgres", "-D", data, *(word for o in options for word in ("-c", o))]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=home, **who)
        try:
            _wait(process, port, home / "log")
            yield Server(port)
        finally:
            process.send_signal(2)  # SIGINT: fast shutdown
            process.wait(30)
    finally:
        shutil.rmtree(home)


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root, as which containers often run their tests."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("running as root, and there is neither a user 'postgres' nor 'nobody' to run PostgreSQL as")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"postgres ended with {process.returncode}: {log.read_text()}")
        with contextlib.suppress(psycopg.OperationalError):
            Server(port).execute("SELECT 1")
            return
        time.sleep(0.1)
    raise RuntimeError(f"postgres does not answer: {log.read_text()}")
