#!/usr/bin/env python3
"""Stands in for BuildKit's program of this name where there is no BuildKit: the same arguments, by way of buildah.

What it takes is what our Jobs give, and it fails on everything else. Build, push, login and digest are real.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["build"])
parser.add_argument("--frontend", choices=["dockerfile.v0"], required=True)
parser.add_argument("--progress", choices=["plain"])
parser.add_argument("--local", action="append", required=True)
parser.add_argument("--metadata-file", type=Path, required=True)
parser.add_argument("--output", required=True)
parser.add_argument("--opt", action="append", default=[])
asked = parser.parse_args()

places = dict(one.split("=", 1) for one in asked.local)
assert places["context"] == places["dockerfile"], places
output = re.fullmatch(r'type=image,"name=([^"]+)",push=true(,registry\.insecure=true)?', asked.output)
assert output, asked.output
names, tls = output[1].split(","), f"--tls-verify={'false' if output[2] else 'true'}"
options = [f"--build-arg={one.removeprefix('build-arg:')}" for one in asked.opt]
login = Path(os.environ.get("DOCKER_CONFIG", "/nowhere"), "config.json")
authentication = [f"--authfile={login}"] if login.exists() else []

work = tempfile.mkdtemp()
buildah = ["buildah", "--storage-driver=vfs", f"--root={work}/root", f"--runroot={work}/run"]


def run(*arguments):
    done = subprocess.run([*buildah, *arguments], check=False)
    if done.returncode:
        sys.exit(f"error: failed to solve: buildah {arguments[0]} ended with {done.returncode}")


run("bud", "--isolation=chroot", tls, *authentication, *options, f"--tag={names[0]}", places["context"])
for name in names:
    run("push", tls, *authentication, f"--digestfile={work}/digest", names[0], f"docker://{name}")
digest = Path(work, "digest").read_text().strip()
asked.metadata_file.write_text(json.dumps({"containerimage.digest": digest, "image.name": output[1]}, indent=2))
