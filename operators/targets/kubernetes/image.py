"""The images on a cluster: built there or taken as they are, and verified once per digest."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wideloop.manifests import smoke_test
from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.errors import ApiRefused, Refused, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.hardware import RESOURCES
from wideloop.manifests.kubernetes import image_build
from wideloop.manifests.kubernetes import smoke_test as smoke_test_job
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.base import Image, ImageBuild, Owner
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.job_run import run_to_end
from wideloop.operators.targets.kubernetes.registry import Registry, RegistryUnreachable
from wideloop.operators.targets.kubernetes.verified_images import VerifiedImages

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def prepare_image(
    api: Api,
    options: ClusterOptions,
    engine: Engine,
    generator: LoadGenerator,
    owner: Owner | None = None,
    *,
    say: Callable[[str], None] = print,
) -> Image:
    """Build what is missing of the engine's and the load generator's image, or find them; returns the engine's.

    Args:
        owner: the run that waits for it.

    Raises:
        Refused: an image is named that does not exist, or cannot be told apart from later ones.
        TargetError: a build or a smoke test failed, or the registry refuses us.
    """
    images = _Images(api, options, owner, say)
    client_image = options.client_image_of(generator.environment)
    images.provide(client_image, generator.environment, generator.imports, gpu="")
    gpu = "" if engine.simulated else RESOURCES[engine.vendors[0]]
    return images.provide(options.engine_image, engine.environment, engine.imports, gpu=gpu)


def build_options(options: ClusterOptions, build: ImageBuild) -> ClusterOptions:
    """The options with what one run wants otherwise about its build.

    Raises:
        Refused: images are not built on this cluster, so that none of it would have an effect.
    """
    if build == ImageBuild():
        return options
    if not options.build:
        rule = "is about building images, and this cluster's images are taken as they are"
        action = "Set WIDELOOP_CLUSTER__BUILD=true, or leave the fields of the image's build at their defaults"
        raise Refused([Finding(field="build", value=build.model_dump(), rule=rule, suggestion=action)])
    return options.changed(
        build_args={**options.build_args, **build.args},
        build_no_cache=build.no_cache or options.build_no_cache,
        build_cpu=build.cpu or options.build_cpu,
        build_memory=build.memory or options.build_memory,
    )


def registry(api: Api, options: ClusterOptions) -> Registry:
    """The registries, with the login that the cluster's secret holds.

    Raises:
        TargetError: the secret holds none.
    """
    return Registry(_login(api, options), options.plain_http_registries)


def _login(api: Api, options: ClusterOptions) -> str:
    """Content of the registry secret; empty where there is none, or where we may not read it."""
    name = options.login_secret
    if name is None:
        return ""
    try:
        secret = api.get(f"/api/v1/namespaces/{options.namespace}/secrets/{name}")
    except ApiRefused as error:
        if error.status == 403:
            return ""
        raise
    data = (secret or {}).get("data") or {}
    return base64.b64decode(data.get(".dockerconfigjson", "")).decode()


@dataclass
class _Images:
    api: Api
    options: ClusterOptions
    owner: Owner | None
    say: Callable[[str], None]
    registry: Registry = field(init=False)
    verified: VerifiedImages = field(init=False)

    def __post_init__(self) -> None:
        self.registry = registry(self.api, self.options)
        self.verified = VerifiedImages(self.api, self.options.namespace)

    def provide(self, image: str, environment: str, imports: Sequence[str], *, gpu: str) -> Image:
        digest, reused = self._built(image, environment) if self.options.build else (self._existing(image), True)
        versions_before = self.verified.versions(digest, imports)
        if versions_before is not None:
            self.say(f"{image} is {digest}, verified before: {_shown(versions_before)}")
            return Image(digest=digest, versions=versions_before, reused=reused)
        by_digest = f"{image.partition('@')[0]}@{digest}"
        self.say(f"smoke test of {by_digest}: importing {', '.join(imports)}")
        job = smoke_test_job.documents(self.options, by_digest, imports, gpu=gpu, arch=self._arch(by_digest))
        versions = smoke_test.versions(run_to_end(self.api, job, self.owner, say=self.say))
        self.verified.note(digest, versions)
        return Image(digest=digest, versions=versions, reused=False)

    def _arch(self, image: str) -> str:
        """The architecture of an image for one only; empty where it has several, or the registry does not tell."""
        try:
            architectures = self.registry.architectures(image)
        except TargetError:
            return ""
        return next(iter(architectures)) if len(architectures) == 1 else ""

    def _existing(self, image: str) -> str:
        """The digest of an image that was built elsewhere."""
        given = image.partition("@")[2]
        try:
            digest = self.registry.digest(image)
        except RegistryUnreachable as error:
            if given:
                self.say(f"{error}: whether {image} exists will show when a node pulls it")
                return given
            raise Refused([_image(image, f"has no digest, and {error}", "Give it as name:tag@sha256:...")]) from error
        if digest is None:
            raise Refused(
                [_image(image, "is not in its registry", "Push it there, give another, or set build to build it")]
            )
        return digest

    def _built(self, image: str, environment: str) -> tuple[str, bool]:
        """The digest of what the recipe makes, and whether it had been made before."""
        made_from = image_build.recipe(environment, self.options.build_args, self.options.build_arch)
        tag = image_build.inputs_tag(image, made_from)
        digest_before = self._registered(tag) or self.verified.built(made_from.inputs)
        if digest_before is not None and not self.options.build_no_cache:
            self.say(f"{tag} was built before: {digest_before}")
            return digest_before, True
        self.say(f"building {tag}")
        job = image_build.documents(self.options, image, made_from)
        digest = run_to_end(self.api, job, self.owner, say=self.say)
        if not _DIGEST.fullmatch(digest):
            raise TargetError(f"the build of {tag} ended well and named no digest, but {digest[:200]!r}")
        pushed = self._registered(tag)
        if pushed not in (None, digest):
            raise TargetError(f"{digest} was pushed as {tag}, and the registry has {pushed} there")
        self.verified.note_built(made_from.inputs, digest)
        self.say(f"built {tag}: {digest}")
        return digest, False

    def _registered(self, tag: str) -> str | None:
        try:
            return self.registry.digest(tag)
        except RegistryUnreachable as error:
            self.say(str(error))
            return None


def _image(image: str, rule: str, suggestion: str) -> Finding:
    return Finding(field="image", value=image, rule=rule, suggestion=suggestion)


def _shown(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
