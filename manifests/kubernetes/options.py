"""Settings of a cluster for all deployments there: names, claims, secrets, images, nodes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.frozen import Frozen
from wideloop.manifests.hardware import Arch
from wideloop.manifests.kubernetes.labels import KUEUE_QUEUE

#: Environment of the project's own pods on a cluster: the files pod and downloads.
TOOLS_ENVIRONMENT = "benchmark"

ApiVersion = Literal["v1beta1", "v1alpha1"]


class ClusterOptions(Frozen):
    """One namespace of a cluster.

    Images are references such as ``registry/name:tag``. The digest of the engine's, a deployment's
    ``spec.image``, is added when a document is rendered; the others are used as they are.

    Attributes:
        api_version: API version of the DynamoGraphDeployment.
        engine_image: image with Dynamo and the engine.
        engine_options: further flags of every worker, e.g. for this cluster's network.
        engine_runtime_version: Dynamo's version inside ``engine_image``; needed when its tag is not that version.
        client_image: image of the files pod, of downloads and of load generators of environment ``benchmark``.
        client_images: images of the load generators of other environments, by environment; with ``build``, one that is
            not named here is pushed to the repository of ``client_image``.
        model_claim: claim that holds the models, mounted read-only at ``model_mount``.
        files_claim: claim (ReadWriteMany) for files that engines and clients write, mounted at ``files_mount``.
        kernel_cache: compiled kernels are kept on the files claim, so that the next deployment starts warm.
        hf_token_secret: secret with the key ``HF_TOKEN``; only downloads and models given by hub id need it.
        priority_class: priority class of every pod of a deployment.
        service_account: account of engines; None: the operator's own choice.
        gpu_node_selector, cpu_node_selector: labels of the nodes for workers, and for pods without a GPU.
        tolerations: of workers, beside the toleration of the GPU's resource, e.g. ``nvidia.com/gpu``.
        rdma_resource: overrides the hardware profile's, e.g. ``rdma/ib``; empty: no request.
        rdma_per_gpu: RDMA devices that a pod requests per GPU.
        rdma_per_pod: RDMA devices that a pod requests, whatever its GPUs; 1 where the resource is only a switch.
        provider: the provider's overlay (``manifests/kubernetes/providers``) by name, or the path of a YAML file; None:
            that of the hardware profile; ``none``: none. What is set here goes before what the overlay says.
        pod_annotations: of workers, e.g. the networks that GKE attaches.
        pod_labels: of workers.
        kueue_queue: Kueue's LocalQueue, named on every object that Kueue may admit.
        kai_queue: queue of the KAI scheduler that the operator gives the pods to; None: the operator's default.
        worker_env: environment variables of workers, e.g. ``NCCL_DEBUG``; they replace those of the engine.
        worker_volumes: volumes of workers, each with ``name``, ``mountPath``, optionally ``readOnly``, and one volume
            source as in a pod, e.g. ``hostPath``.
        worker_resources: further limits of a worker's pod, by resource name.
        worker_user: user of workers; None: root for those that lock memory for RDMA, else the image's own.
        worker_security_context: fields of the workers' container security context, over those that are rendered.
        privileged: workers run privileged, e.g. where GPU-initiated RDMA needs it.
        host_network: workers use their node's network.
        tools_user: user of load generators, downloads, the files pod and the simulated engine; 0: root, for storage
            whose folders only root may write.
        topology_keys: node labels; the pods of a worker over several nodes prefer nodes with equal values, most of all
            those of the first.
        required_node_labels: labels that a worker's node must have, whatever their value.
        compute_domain: workers over several nodes of an NVLink domain get a ComputeDomain of their own; False: the
            cluster joins these nodes by itself.
        compute_domain_claim: an existing ComputeDomain's ResourceClaimTemplate, used instead of one of their own.
        shared_memory: size of ``/dev/shm`` in a worker's pod, for NCCL and model loading.
        frontend_cpu, frontend_memory: requests of the frontend.
        client_cpu, client_memory: requests of a load generator.
        worker_cpu, worker_memory: requests of each pod of a worker; None: no request.
        grove: False has the operator use LeaderWorkerSet instead of Grove.
        build: images are built in the cluster and pushed to ``engine_image`` and ``client_image``; False: they exist
            and are only verified.
        build_args: build arguments of the engine's image, e.g. ``SGLANG_IMAGE_TAG`` (``manifests/images``).
        build_arch: architecture of built images, and of the node that builds them; ``arm64`` for GB200.
        build_no_cache: build every layer anew, and images whose inputs were built before.
        build_cpu, build_memory: requests of a build; compiling DeepEP takes some 4 GiB per compiler.
        build_timeout_s, download_timeout_s: seconds after which a build, or a download of weights, counts as stuck.
        buildkit_image: BuildKit, rootless.
        registry_secret: secret of type ``kubernetes.io/dockerconfigjson`` with the login for pushing and for queries.
        plain_http_registries: hosts (with port) that speak HTTP only.
        storage_class: storage class of new claims; None: the cluster's default.
        model_claim_size: size of a new model claim, e.g. ``2Ti``; None: the size of the model.
        files_claim_size: size of a new files claim.
        autoscaled: the cluster adds nodes for pending pods, so that too few nodes are no error.
        hub_endpoint: a mirror of the Hugging Face hub.
        simulated: the GPU nodes are stand-ins (the rehearsal in this project's tests): every result is marked as
            simulated, whatever the engine, and pods are told so. Stand-ins start for no one else.
        model_revisions: commit to download by hub id; replaces that of ``manifests/hub.py``.
    """

    namespace: str = "default"
    api_version: ApiVersion = "v1beta1"
    engine_image: str = "nvcr.io/nvidia/ai-dynamo/sglang-runtime:1.6.1"
    engine_options: tuple[str, ...] = ()
    engine_runtime_version: str | None = None
    client_image: str = "wideloop-benchmark:latest"
    client_images: dict[str, str] = {}
    image_pull_secret: str | None = None
    model_claim: str = "model-cache"
    model_mount: str = "/model-cache"
    files_claim: str = "wideloop-files"
    files_mount: str = "/wideloop-files"
    kernel_cache: bool = True
    hf_token_secret: str | None = None
    priority_class: str | None = None
    service_account: str | None = None
    gpu_node_selector: dict[str, str] = {}
    cpu_node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    rdma_resource: str | None = None
    rdma_per_gpu: int = Field(1, ge=0)
    rdma_per_pod: int | None = Field(None, ge=0)
    provider: str | None = None
    pod_annotations: dict[str, str] = {}
    pod_labels: dict[str, str] = {}
    kueue_queue: str | None = None
    kai_queue: str | None = None
    worker_env: dict[str, str] = {}
    worker_volumes: tuple[dict[str, Any], ...] = ()
    worker_resources: dict[str, str] = {}
    worker_user: int | None = Field(None, ge=0)
    worker_security_context: dict[str, Any] = {}
    privileged: bool = False
    host_network: bool = False
    tools_user: int = Field(1000, ge=0)
    topology_keys: tuple[str, ...] = ()
    required_node_labels: tuple[str, ...] = ()
    compute_domain: bool = True
    compute_domain_claim: str | None = None
    shared_memory: str = "80Gi"
    frontend_cpu: str = "4"
    frontend_memory: str = "8Gi"
    client_cpu: str = "4"
    client_memory: str = "8Gi"
    worker_cpu: str | None = None
    worker_memory: str | None = None
    grove: bool = True
    build: bool = False
    build_args: dict[str, str] = {}
    build_arch: Arch = "amd64"
    build_no_cache: bool = False
    build_cpu: str = "2"
    build_memory: str = "8Gi"
    build_timeout_s: float = Field(7200, gt=0)
    download_timeout_s: float = Field(14400, gt=0)
    buildkit_image: str = "moby/buildkit:v0.34.2-rootless"
    registry_secret: str | None = None
    plain_http_registries: tuple[str, ...] = ()
    storage_class: str | None = None
    model_claim_size: str | None = None
    files_claim_size: str = "100Gi"
    autoscaled: bool = False
    hub_endpoint: str | None = None
    simulated: bool = False
    model_revisions: dict[str, str] = {}

    @field_validator("worker_volumes")
    @classmethod
    def _volumes_of_a_pod(cls, volumes: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for volume in volumes:
            sources = sorted(volume.keys() - {"name", "mountPath", "readOnly"})
            if not {"name", "mountPath"} <= volume.keys() or len(sources) != 1:
                example = '{"name": "scratch", "mountPath": "/scratch", "hostPath": {"path": "/mnt/nvme"}}'
                raise ValueError(f"a volume has a name, a mountPath and one source, as in {example}: {volume}")
        return volumes

    @property
    def queue_labels(self) -> dict[str, str]:
        """The label by which Kueue finds the queue of an object; empty without a queue."""
        return {KUEUE_QUEUE: self.kueue_queue} if self.kueue_queue else {}

    @property
    def login_secret(self) -> str | None:
        """The secret with the login for queries to registries."""
        return self.registry_secret or self.image_pull_secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that Airflow itself reads."""
        return tuple(name for name in (self.hf_token_secret, self.login_secret) if name)

    def image(self, digest: str) -> str:
        """The engine's image by digest; unchanged when ``digest`` is unknown or the image has one already."""
        if "@" in self.engine_image or not digest.startswith("sha256:"):
            return self.engine_image
        return f"{self.engine_image}@{digest}"

    def client_image_of(self, environment: str) -> str:
        """The image of load generators of an environment, as the options name it.

        Raises:
            Refused: the options name no image for it, and images are not built.
        """
        if environment in self.client_images:
            return self.client_images[environment]
        if self.build or environment == TOOLS_ENVIRONMENT:
            return self.client_image
        raise Refused(
            [
                Finding(
                    field="client_images",
                    value=self.client_images,
                    rule=f"names no image for environment {environment!r} of the load generator",
                    suggestion="Set WIDELOOP_CLUSTER__CLIENT_IMAGES to "
                    f'{{"{environment}": "registry/name:tag"}}, or have images built: WIDELOOP_CLUSTER__BUILD=true',
                )
            ]
        )

    @property
    def kernel_cache_dir(self) -> str:
        """The folder of compiled kernels on the files claim, as pods see it: one below it for each image."""
        return f"{self.files_mount}/kernel-cache"

    def files_dir(self, deployment: str, *parts: str) -> str:
        """The folder of a deployment on the files claim, or one below it, as pods see it."""
        return "/".join([self.files_mount, deployment, *parts])
