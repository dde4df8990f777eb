"""What a run was asked for: its parameters, checked on every way in, and the objects that are made of them."""

from wideloop.operators.request.placing import is_placed, why_not_placed
from wideloop.operators.request.request import DEFAULTS, UNKNOWN, Request, as_stored, deployment_name, is_simulated
from wideloop.operators.request.run_options import RunOptions

__all__ = [
    "DEFAULTS",
    "UNKNOWN",
    "Request",
    "RunOptions",
    "as_stored",
    "deployment_name",
    "is_placed",
    "is_simulated",
    "why_not_placed",
]
