"""Check an environment: import each of its required modules and print their versions.

The same script runs as a child process in a local environment and as a Job's pod in an image.
"""

from __future__ import annotations

import json

#: Arguments: the modules. Prints a JSON object of versions, also to the file that WIDELOOP_RESULT names.
SCRIPT = """
import importlib, importlib.metadata, json, os, sys
owners = importlib.metadata.packages_distributions()
versions = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    top = name.split(".")[0]
    known = importlib.metadata.version(owners[top][0]) if top in owners else "?"
    versions[name] = known if known != "?" else getattr(module, "__version__", "?")
text = json.dumps(versions)
if result := os.environ.get("WIDELOOP_RESULT"):
    open(result, "w").write(text)
print(text)
"""


def versions(output: str) -> dict[str, str]:
    """Parse the versions from the last line that the script printed."""
    imported: dict[str, str] = json.loads(output.strip().splitlines()[-1])
    return imported
