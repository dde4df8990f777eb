"""Documents for Dynamo's operator: the DynamoGraphDeployment, its names and ports, and what is checked about it."""

from wideloop.manifests.kubernetes.dynamo.graph import GROUP, KIND, demands, grants, render
from wideloop.manifests.kubernetes.dynamo.names import frontend_service
from wideloop.manifests.kubernetes.dynamo.ports import FRONTEND_PORT, SYSTEM_PORT

__all__ = ["FRONTEND_PORT", "GROUP", "KIND", "SYSTEM_PORT", "demands", "frontend_service", "grants", "render"]
