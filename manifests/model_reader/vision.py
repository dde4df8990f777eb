"""Weights of the vision tower that a multimodal checkpoint carries."""

from __future__ import annotations

from wideloop.manifests.model_reader.keys import MOST_LAYERS, Keys


def vision_params(keys: Keys) -> int:
    """Weights of its transformer; 0 without one, or where its config leaves the sizes to the model class.

    The merger and projector, a few percent of the tower, are left out: the tower itself is 0.1 to 2 % of a model.
    """
    section = keys.section("vision_config")
    layers = section.count(
        "depth", "num_hidden_layers", "vt_num_hidden_layers", "layers", "num_layers", most=MOST_LAYERS
    )
    hidden = section.count("hidden_size", "vt_hidden_size", "width", "embed_dim")
    inner = section.count("intermediate_size", "vt_intermediate_size", default=4 * hidden)
    return layers * (4 * hidden**2 + 2 * hidden * inner)
