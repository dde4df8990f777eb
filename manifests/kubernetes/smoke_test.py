"""The Job that checks whether the modules of an engine or a client import in an image, and DeepEP dispatches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from wideloop.manifests import smoke_test
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.task_job import ARCH_LABEL, Task, task_documents

#: Pulling an image of 20 GB takes minutes, at 20 MB/s a quarter of an hour; importing torch and SGLang one minute.
#: The limit also bounds how long the Job holds its GPU when its run no longer exists.
_LIMIT_S = 1800.0


def documents(
    options: ClusterOptions, image: str, imports: Sequence[str], *, gpu: str, arch: str = ""
) -> list[dict[str, Any]]:
    """The Job.

    Args:
        image: image reference with digest.
        imports: modules; those compiled against a GPU's driver import only on a node with that driver.
        gpu: resource name of the GPUs that the Job requests, one or as many as DeepEP's dispatch takes; empty for none.
        arch: of the nodes that the image runs on; empty where it is not known, or any.
    """
    of = hashlib.sha256(repr([image, *imports, smoke_test.SCRIPT]).encode()).hexdigest()[:12]
    task = Task(
        kind="smoke-test",
        name=f"wideloop-smoke-test-{of}",
        image=image,
        command=("python3", "-c", smoke_test.SCRIPT, *imports),
        limit_s=_LIMIT_S,
        resources={"limits": {gpu: str(smoke_test.DISPATCH_GPUS if "deep_ep" in imports else 1)}} if gpu else {},
        gpu=gpu,
        node_labels={ARCH_LABEL: arch} if arch else {},
        # NCCL of two ranks does not fit into a container's usual 64 MiB.
        volumes=({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}},) if gpu else (),
        mounts=({"name": "shm", "mountPath": "/dev/shm"},) if gpu else (),
    )
    return task_documents(options, task)
