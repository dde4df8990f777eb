"""SGLang's recorder of expert distributions, as 0.5.17 to 0.5.23 have it."""

from __future__ import annotations

import re

from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.expert_recorder import ExpertRecorder

_RANK = re.compile(r"expert_distribution_recorder_\d+(?:\.\d+)?_(\d+)\.pt$")


class SglangRecorder(ExpertRecorder):
    """It counts a rank's choices over all experts, and in most modes adds up all ranks of the worker."""

    def rank(self, file_name: str) -> int | None:
        match = _RANK.search(file_name)
        return int(match[1]) if match else None

    def copies(self, worker: WorkerSpec) -> int:
        """Once per rank where no all-to-all back end divides the tokens.

        Without such a back end every tensor-parallel rank routes every token, into however few groups the experts are
        divided.
        """
        return worker.layout.tp if worker.knobs.deepep_mode is None else 1


def sglang_recorder(prefix: str = "") -> SglangRecorder:
    """The recorder whose routes are below ``prefix``."""
    return SglangRecorder(
        start_path=f"{prefix}/start_expert_distribution_record",
        stop_path=f"{prefix}/stop_expert_distribution_record",
        dump_path=f"{prefix}/dump_expert_distribution_record",
        files="expert_distribution_recorder_*.pt",
    )
