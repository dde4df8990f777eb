import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.errors import Refused
from wideloop.manifests.validation import nearest_redundant, validate

#: Published checkpoint sizes in 1e9 bytes.
CHECKPOINTS = {
    "DeepSeek-R1": 688.6,
    "DeepSeek-R1-0528": 688.6,
    "DeepSeek-V3": 688.6,
    "Qwen3-30B-A3B": 61,
    "Qwen3-30B-A3B-FP8": 31,
    "Qwen3-235B-A22B": 470,
    "Qwen3-235B-A22B-FP8": 236,
    "Kimi-K2-Instruct": 1029.2,
    "Mixtral-8x7B": 93.4,
    "Random-Qwen3-MoE-8L": 40.6,
    "Random-DeepSeek-V3-5L": 94.4,
}
GROUP_B = {
    "h100-8": 8, "h200-8": 8, "h100-16": 16, "h200-16": 16, "h100-16-4x4": 16, "h200-16-4x4": 16, "h100-32": 32,
    "h200-32": 32, "h100-104": 104, "h100-64": 64, "h100-96": 96, "coreweave-h200-32": 32, "gke-h200-32": 32,
    "gke-b200-32": 32, "dgx-cloud-gb200": 32, "gb200-nvl72": 72, "l4-8": 8, "h200-2": 2, "h200-2-pd": 2, "h200-4": 4,
    "h200-8-aggregated": 8,
}  # fmt: skip


def test_every_named_model_is_there():
    assert set(profiles.model_names()) == set(CHECKPOINTS)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_model_weighs_what_its_checkpoint_does(name):
    assert profiles.model(name).total_bytes / 1e9 == pytest.approx(CHECKPOINTS[name], rel=0.02)


def test_every_named_hardware_is_there():
    assert {n: profiles.hardware(n).gpus for n in profiles.hardware_names()} == GROUP_B


@pytest.mark.parametrize("name", GROUP_B)
def test_a_profiles_own_layout_is_valid(name):
    """With the fewest redundant experts that divide: 32 at EP 72, none elsewhere."""
    hardware, model = profiles.hardware(name), profiles.model("DeepSeek-R1")
    workers = tuple(
        WorkerSpec(role=r, layout=w, knobs=Knobs(redundant_experts=nearest_redundant(256, w.ep, 0)[0]))
        for r, w in hardware.workers.items()
    )
    spec = DeploymentSpec(
        name="t", target="local", engine="simulated", image="sha256:0", model=model, model_path="/m",
        hardware=hardware, workers=workers,
    )  # fmt: skip
    assert validate(spec) == []
    assert spec.gpus == hardware.gpus


def test_a_hub_id_finds_its_profile_and_a_directory_itself(tmp_path):
    assert profiles.model("deepseek-ai/DeepSeek-R1") == profiles.model("DeepSeek-R1")
    (tmp_path / "config.json").write_text(profiles.model_config_path("Mixtral-8x7B").read_text())
    assert profiles.model(str(tmp_path)) == profiles.model("Mixtral-8x7B")


@pytest.mark.parametrize(
    ("lookup", "name", "nearest"),
    [(profiles.model, "DeepSeek-R2", "DeepSeek-R1"), (profiles.hardware, "h100-17", "h100-16")],
)
def test_an_unknown_name_is_refused_with_the_nearest(lookup, name, nearest):
    with pytest.raises(Refused, match=f"Did you mean '{nearest}'"):
        lookup(name)


def test_a_missing_directory_is_refused():
    with pytest.raises(Refused, match=r"config\.json"):
        profiles.model("/no/such/model")


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"num_hidden_layers": 2, "hidden_size": 8}'])
def test_a_config_that_is_no_moe_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Refused):
        profiles.model(str(tmp_path))


def test_what_follows_from_the_models_files_is_no_part_of_a_fingerprint():
    """Measurements of 0.1.0, which read fewer fields, stay comparable."""
    hardware = profiles.hardware("h200-16")
    workers = tuple(WorkerSpec(role=r, layout=w) for r, w in hardware.workers.items())

    def fingerprint(**changes):
        return DeploymentSpec(
            name="t", target="local", engine="simulated", image="sha256:0", model_path="/m", hardware=hardware,
            model=profiles.model("DeepSeek-R1").changed(**changes), workers=workers,
        ).fingerprint  # fmt: skip

    assert fingerprint() == fingerprint(other_bytes=5, latent_dim=1, scale_bytes=0.5)
    assert fingerprint() != fingerprint(num_layers=62)
