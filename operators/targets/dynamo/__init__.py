"""The ``dynamo`` target: engines as a DynamoGraphDeployment on a Kubernetes cluster."""

from wideloop.operators.targets.dynamo.target import DynamoTarget

__all__ = ["DynamoTarget"]
