"""The ``dynamo`` target: engines as a DynamoGraphDeployment on a Kubernetes cluster."""
