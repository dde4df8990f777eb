"""Who may look at the results: whoever may open plugins in Airflow.

Airflow calls these dependencies internal, so this is the one module that imports them. They do not use
``request.app.state``, which inside a mounted application is that application's and not Airflow's.
"""

from __future__ import annotations

from fastapi import Depends
from fastapi.params import Depends as Dependency


def guards() -> list[Dependency]:
    """FastAPI dependencies that answer 401 to users without a login and 403 to users without access to plugins."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view

    return [Depends(requires_access_view(AccessView.PLUGINS))]
