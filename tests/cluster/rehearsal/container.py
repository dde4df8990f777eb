"""What ``python3`` is in a container of the image: it rehearses the engine's programs and runs all others."""

from __future__ import annotations

import os
import sys

from tests.cluster.rehearsal.description import Description

#: Imported by Dynamo's workers, beside what SGLang's parser needs.
_UNINSTALLED = frozenset({"blake3", "compressed_tensors", "cupy", "gguf"})


def main(argv: list[str]) -> None:
    """Do what ``python3 *argv`` asks for."""
    match argv:
        case ["-m", "dynamo.sglang", *arguments]:
            from tests.cluster.rehearsal import worker

            worker.main(arguments, Description.of_this_container())
        case ["-m", "dynamo.frontend", *arguments]:
            from tests.cluster.rehearsal import frontend

            frontend.main(arguments)
        case ["-c", script, *arguments]:
            _run(script, arguments)
        case _:
            os.execv(sys.executable, [sys.executable, *argv])


def _run(script: str, arguments: list[str]) -> None:
    """A script that imports SGLang and what belongs to it, as the smoke test does."""
    from tests.engine_parser import stubs

    sys.path.extend(Description.of_this_container().packages)
    stubs.install(_UNINSTALLED)
    import sglang

    # Loaded when it is asked for; it needs a GPU.
    sglang.Engine = stubs.stub("Engine")
    sys.argv = ["-c", *arguments]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(sys.argv[1:])
