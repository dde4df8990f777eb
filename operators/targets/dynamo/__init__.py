"""The ``dynamo`` target: engines as a DynamoGraphDeployment on a Kubernetes cluster."""

from operators.targets.dynamo.target import DynamoTarget as DynamoTarget
