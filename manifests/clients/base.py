"""The load generator seam: what a client is, which environment it runs in, and how it measures a workload.

A load generator is pure: it turns a workload into a command line. Starting, watching and ending the client is the
target's business; its files are read by the :class:`wideloop.results.clients.base.ResultReader` of the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from wideloop.manifests.engines.base import Command
from wideloop.manifests.workload import Workload


class LoadGenerator(ABC):
    """How one load generator measures a workload: a warm-up, then every level of concurrency in order.

    Attributes:
        name: as in ``Workload.client``.
        version: as in ``Workload.client_version``; results of two versions are not compared as equal.
        environment: name of its lock file in ``manifests/environments``, of its recipe in ``manifests/images``, and
            of the virtual environment that it runs in on the local target.
        imports: modules that must import in that environment (the smoke test of the image).
        result_suffixes: suffixes of the files that hold results; a target fetches only these. Empty: all files.

    Example:
        A closed loop that sends one request after the other and prints nothing that is kept::

            @LOAD_GENERATORS.register("curl")
            class Curl(LoadGenerator):
                name, version, environment, imports = "curl", "8", "benchmark", ()

                def command(self, workload, *, url, model, tokenizer_dir, out_dir, cache_dir=None):
                    return Command(argv=("sh", "-c", f"curl {url}/v1/models > {out_dir}/answer.json"))
    """

    name: str
    version: str
    environment: str
    imports: tuple[str, ...]
    result_suffixes: tuple[str, ...] = ()

    @abstractmethod
    def command(
        self,
        workload: Workload,
        *,
        url: str,
        model: str,
        tokenizer_dir: str,
        out_dir: str,
        cache_dir: str | None = None,
    ) -> Command:
        """The command that warms up, measures every level of ``workload`` and leaves its files in ``out_dir``.

        It runs once per workload, in :attr:`environment`, whose programs are on its PATH; it ends with status 0 when
        every level was measured.

        Args:
            url: base URL of the OpenAI-style frontend, e.g. ``http://127.0.0.1:8000``.
            model: served model name.
            tokenizer_dir: directory with the model's tokenizer files.
            out_dir: absolute directory for everything that the client writes.
            cache_dir: where the client may keep files between its starts (tokenised prompts); None: nowhere.
        """

    def keeps(self, file_name: str) -> bool:  # noqa: ARG002
        """Whether a result file belongs in the artefact store, with the measurements that were made from it."""
        return True
