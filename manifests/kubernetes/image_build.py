"""The Job that builds an image in the cluster with rootless BuildKit, and the image's build context.

The manifest follows BuildKit's own example for rootless Jobs: user 1000, no process sandbox, and neither seccomp
nor AppArmor in the way of its user namespaces.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wideloop.manifests.errors import Refused, refuse
from wideloop.manifests.findings import unknown
from wideloop.manifests.hardware import Arch
from wideloop.manifests.kubernetes.options import TOOLS_ENVIRONMENT, ClusterOptions
from wideloop.manifests.kubernetes.task_job import ARCH_LABEL, Task, task_documents

_WIDELOOP = Path(__file__).parents[2]
_RECIPES = _WIDELOOP / "manifests" / "images"
_LOCKS = _WIDELOOP / "manifests" / "environments"
#: Packages of this project that run inside an engine's container, by environment.
_PACKAGES = {"simulated": ("manifests", "tuning")}
#: Programs of ``manifests/images`` that a recipe runs while it builds.
_PROGRAMS = {"dynamo-sglang": ("dynamo_requirements.py",)}
_SUFFIXES = {".py", ".json", ".yaml", ".txt"}
_ARGUMENT = re.compile(r"^ARG (\w+)", re.MULTILINE)
_ARCHIVE = "context.tar.gz"
_SETTINGS = "buildkitd.toml"
_CONTEXT = "/wideloop/context"
_LOGIN = "/wideloop/login"
#: Its last line is the result: buildctl writes the digest of what it pushed to its metadata file.
_SCRIPT = f"""\
set -eu
work=$(mktemp -d)
mkdir "$work/context"
tar -xzf "$WIDELOOP_CONTEXT/{_ARCHIVE}" -C "$work/context"
buildctl-daemonless.sh build --frontend dockerfile.v0 --progress plain \\
  --local context="$work/context" --local dockerfile="$work/context" --metadata-file "$work/metadata.json" "$@"
digest=$(sed -n 's/.*"containerimage.digest": *"\\(sha256:[0-9a-f]*\\)".*/\\1/p' "$work/metadata.json")
printf '%s' "$digest" > "$WIDELOOP_RESULT"
"""


class Recipe(NamedTuple):
    """The inputs of an image build.

    Attributes:
        environment: an engine's, or a load generator's.
        archive: the build context as a tar file; the same bytes for the same content.
        build_args: arguments that replace the Dockerfile's defaults.
        arch: architecture of the image, which is built on a node of it.
    """

    environment: str
    archive: bytes
    build_args: Mapping[str, str]
    arch: Arch = "amd64"

    @property
    def inputs(self) -> str:
        """12 hex digits of all inputs: equal for equal inputs."""
        digest = hashlib.sha256(self.archive)
        digest.update(repr(sorted(self.build_args.items())).encode())
        if self.arch != "amd64":
            digest.update(self.arch.encode())
        return digest.hexdigest()[:12]


def recipe(environment: str, build_args: Mapping[str, str], arch: Arch = "amd64") -> Recipe:
    """The recipe of an environment's image, with those of ``build_args`` that its Dockerfile takes.

    Raises:
        Refused: there is no Dockerfile for it, or an argument that no Dockerfile takes.
    """
    dockerfiles = {p.name.removesuffix(".Dockerfile"): p for p in _RECIPES.glob("*.Dockerfile")}
    if environment not in dockerfiles:
        raise Refused([unknown("engine", environment, dockerfiles)])
    takes = {name: set(_ARGUMENT.findall(path.read_text())) for name, path in dockerfiles.items()}
    argument_names = set().union(*takes.values())
    refuse(unknown("build_args", name, argument_names) for name in build_args if name not in argument_names)
    files = {"Dockerfile": dockerfiles[environment].read_bytes()}
    lock = _LOCKS / f"{environment}.txt"
    if lock.is_file():
        files["requirements.txt"] = lock.read_bytes()
    files |= {name: (_RECIPES / name).read_bytes() for name in _PROGRAMS.get(environment, ())}
    files |= {f"project/wideloop/{name}": path.read_bytes() for name, path in _sources(environment)}
    arguments = {name: value for name, value in build_args.items() if name in takes[environment]}
    return Recipe(environment, _archive(files), arguments, arch)


def _sources(environment: str) -> Iterator[tuple[str, Path]]:
    for package in _PACKAGES.get(environment, ()):
        folder = (_WIDELOOP / package).resolve()
        for path in folder.rglob("*"):
            if path.suffix in _SUFFIXES and path.is_file():
                yield f"{package}/{path.relative_to(folder)}", path


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)  # Without times and owners, which would make equal contexts differ.
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def inputs_tag(image: str, made_from: Recipe) -> str:
    """The image reference in the registry for exactly these inputs."""
    repository = image.partition("@")[0]
    head, slash, last = repository.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}:inputs-{made_from.inputs}"


def client_image(options: ClusterOptions, environment: str = TOOLS_ENVIRONMENT) -> str:
    """The image that clients of an environment run in; an image that is built here is tagged by its inputs' hash.

    The pods that serve files run in that of :data:`TOOLS_ENVIRONMENT`.

    Raises:
        Refused: as :func:`recipe`, or the options name no image for that environment.
    """
    image = options.client_image_of(environment)
    return inputs_tag(image, recipe(environment, options.build_args, options.build_arch)) if options.build else image


def documents(options: ClusterOptions, image: str, made_from: Recipe) -> list[dict[str, Any]]:
    """The Job that builds ``made_from`` and pushes it as ``image`` and under its inputs' tag; and its context."""
    tagged = inputs_tag(image, made_from)
    host = image.partition("/")[0]
    insecure = ",registry.insecure=true" if host in options.plain_http_registries else ""
    names = tagged if "@" in image else f"{image},{tagged}"
    arguments = [f'--output=type=image,"name={names}",push=true{insecure}']
    arguments += [f"--opt=build-arg:{key}={value}" for key, value in sorted(made_from.build_args.items())]
    if options.build_no_cache:
        arguments.append("--no-cache")
    flags, files = "--oci-worker-no-process-sandbox", {_ARCHIVE: gzip.compress(made_from.archive, mtime=0)}
    if options.plain_http_registries:
        files[_SETTINGS] = _settings(options).encode()
        flags += f" --config={_CONTEXT}/{_SETTINGS}"
    login = options.registry_secret
    volumes: list[dict[str, Any]] = [{"name": "buildkit", "emptyDir": {}}]
    mounts: list[dict[str, Any]] = [{"name": "buildkit", "mountPath": "/home/user/.local/share/buildkit"}]
    if login:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append({"name": "login", "secret": {"secretName": login, "items": items}})
        mounts.append({"name": "login", "mountPath": _LOGIN, "readOnly": True})
    unconfined = {"type": "Unconfined"}
    task = Task(
        kind="image",
        name=f"wideloop-image-{made_from.environment}-{made_from.inputs}",
        image=options.buildkit_image,
        command=("sh", "-c", _SCRIPT, "build", *arguments),
        env={"BUILDKITD_FLAGS": flags} | ({"DOCKER_CONFIG": _LOGIN} if login else {}),
        limit_s=options.build_timeout_s,
        files=files,
        files_at=_CONTEXT,
        files_variable="WIDELOOP_CONTEXT",
        security=(
            {},
            {"runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": unconfined, "appArmorProfile": unconfined},
        ),
        resources={"requests": {"cpu": options.build_cpu, "memory": options.build_memory}},
        node_labels={ARCH_LABEL: made_from.arch},
        volumes=tuple(volumes),
        mounts=tuple(mounts),
    )
    return task_documents(options, task)


def _settings(options: ClusterOptions) -> str:
    """BuildKit's configuration for pulling from registries without TLS; the output option sets it for pushing."""
    return "".join(f'[registry."{host}"]\n  http = true\n  insecure = true\n' for host in options.plain_http_registries)
