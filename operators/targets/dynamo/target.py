"""The ``dynamo`` target: a deployment is a DynamoGraphDeployment."""

from __future__ import annotations

from wideloop.operators.targets.dynamo.platform import DynamoPlatform
from wideloop.operators.targets.kubernetes.target import KubernetesTarget


class DynamoTarget(KubernetesTarget):
    """Runs engines under Dynamo on Kubernetes."""

    name = "dynamo"
    runtimes = ("dynamo",)
    platform = DynamoPlatform()
