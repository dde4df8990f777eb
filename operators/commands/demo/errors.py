"""What stops the demo command; each carries one line for the person at the terminal."""

from __future__ import annotations

from wideloop.manifests.errors import WideloopError


class DemoError(WideloopError):
    """The demo cannot start or continue."""
