"""The documents of a comparison as the steps keep them: a small model, drawn counts, everything else computed.

python tests/unit/results/experts_factory.py ARTEFACTS_FOLDER CYCLE_ID
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.hardware import Role
from wideloop.manifests.workload import Workload
from wideloop.operators.request import Request
from wideloop.results.artefacts import Artefacts
from wideloop.results.experts.analysis import role_report, sum_of_roles
from wideloop.results.experts.comparison import Change, Comparison, Level, Proof
from wideloop.results.experts.outputs import compared
from wideloop.results.experts.rebalances import Rebalances
from wideloop.results.experts.role_report import RoleReport
from wideloop.results.recordings import ExpertRecording
from wideloop.results.recordings.recording import Counts
from wideloop.tuning.popularity import popularity

WORKLOAD = Workload(isl=2048, osl=64, concurrency=(16, 32))


def spec() -> DeploymentSpec:
    return Request.from_params({"model": "DeepSeek-R1", "hardware": "h200-16"}).spec("recorded")


def recording(deployment: DeploymentSpec, role: str) -> ExpertRecording:
    """Eight windows of 61 layers, the first three dense."""
    worker = deployment.worker(role)  # type: ignore[arg-type]
    share = popularity(deployment.model, role)
    random = np.random.default_rng(len(role))
    dense = np.zeros((deployment.model.num_layers - deployment.model.num_moe_layers, deployment.model.num_experts))
    windows = np.stack([np.vstack([dense, random.multinomial(20_000, share)]) for _ in range(8)])
    counts = {worker.role: windows.astype(np.int64) * worker.layout.tp}
    origin = {"model": deployment.model.name, "recorder": "stat", "raw": [f"file:///artefacts/{role}.pt"]}
    return ExpertRecording(counts, {worker.role: 640}, copies=worker.layout.tp, provenance=origin)


def aggregated_spec() -> DeploymentSpec:
    asked = {"model": "DeepSeek-R1", "hardware": "h200-8-aggregated", "engine": "sglang"}
    return Request.from_params(asked).spec("recorded")


def aggregated_recording() -> ExpertRecording:
    """Of a worker that does both: four windows of prefill, eight of decode with a tenth of the tokens of each."""
    model = aggregated_spec().model
    random = np.random.default_rng(0)
    dense = np.zeros((model.num_layers - model.num_moe_layers, model.num_experts))

    def drawn(role: str, windows: int, tokens: int) -> Counts:
        share = popularity(model, role)
        found = np.stack([np.vstack([dense, random.multinomial(tokens, share)]) for _ in range(windows)])
        return found.astype(np.int64) * 8

    windows: dict[Role, Counts] = {"prefill": drawn("prefill", 4, 400_000), "decode": drawn("decode", 8, 20_000)}
    return ExpertRecording(windows, {"prefill": 40, "decode": 800}, copies=8, provenance={"recorder": "per_pass"})


def undivided(recording: ExpertRecording) -> ExpertRecording:
    """The same from a recorder that does not tell passes apart."""
    return replace(
        recording, windows={"aggregated": sum_of_roles(recording).astype(np.int64)}, passes={"aggregated": 840}
    )


def reports() -> list[RoleReport]:
    deployment = spec()
    return [role_report(deployment, w, recording(deployment, w.role), WORKLOAD) for w in deployment.workers]


def comparison() -> Comparison:
    def change(before: float, after: float) -> Change:
        gain = after / before - 1
        return Change(before=before, after=after, change=gain, low=gain - 0.02, high=gain + 0.02, pairs=3)

    level = Level(
        concurrency=32,
        changes={
            "output_tok_s": change(1000, 1064), "input_tok_s": change(9000, 9500), "ttft_ms_p50": change(210, 195),
            "tpot_ms_p50": change(18.0, 17.1), "tpot_ms_p99": change(21.0, 20.2),
        },
    )  # fmt: skip
    proof = Proof(
        state="honoured",
        reason="the second recording counts the same experts (r = 0.999): the placement is in effect",
        before=0.80,
        predicted=0.999,
        measured=0.985,
    )
    answers = ["because light scatters", "391"]
    return Comparison(
        simulated=True,
        eplb="static",
        levels=(level,),
        proofs={"prefill": proof, "decode": proof},
        outputs=compared(answers, answers, answers),
        rebalances={"decode-0": Rebalances(seconds=(0.112, 0.066), before=0.8, after=0.97, by_mode={"decode": 0.95})},
        verdict="+6.4% output tok/s at concurrency 32 (+4.4% to +8.4%, 3 pairs): worth it",
    )


def seed(artefacts: Artefacts, cycle_id: str) -> None:
    """Everything that wideep_experts keeps of a run."""
    for role in reports():
        artefacts.put_json(role.model_dump(mode="json"), "cycles", cycle_id, "experts", f"{role.role}.json")
    artefacts.put_json(comparison().model_dump(mode="json"), "cycles", cycle_id, "experts", "comparison.json")


if __name__ == "__main__":
    seed(Artefacts(Path(sys.argv[1])), sys.argv[2])
