"""How long tests wait."""

from __future__ import annotations

#: Limits in tests are written for a quiet machine; a condition is waited for this many times longer. A machine that
#: runs two streams of tests and something else needs it, and a limit costs nothing unless the test fails.
PATIENCE = 3.0
