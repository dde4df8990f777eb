"""The model and hardware profiles that ship with the project, by name.

Model profiles are ``models/<name>/config.json``, hardware profiles ``hardware/<name>.yaml``; the
latter name their GPU by its key in ``hardware/gpus.yaml``. The listings read file names only: DAG
files call them to fill trigger forms, and parsing YAML there would be paid every few seconds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown
from wideloop.manifests.hardware import GpuSpec, HardwareProfile
from wideloop.manifests.model import ModelSpec

_HERE = Path(__file__).parent
_MODELS = _HERE / "models"
_HARDWARE = _HERE / "hardware"
_GPUS = _HARDWARE / "gpus.yaml"


def model_names() -> tuple[str, ...]:
    """Names that :func:`model` accepts, sorted."""
    return tuple(sorted(p.parent.name for p in _MODELS.glob("*/config.json")))


def hardware_names() -> tuple[str, ...]:
    """Names that :func:`hardware` accepts, sorted."""
    return tuple(sorted(p.stem for p in _HARDWARE.glob("*.yaml") if p != _GPUS))


def model_config_path(name_or_path: str) -> Path:
    """The config.json of a shipped profile, or of a model directory or file given by path.

    Raises:
        Refused: ``name_or_path`` is neither a profile's name nor such a path.
    """
    if name_or_path in model_names():
        return _MODELS / name_or_path / "config.json"
    path = Path(name_or_path)
    if "/" in name_or_path or path.exists():
        # A hub id also has a slash: "deepseek-ai/DeepSeek-R1" is understood as the profile it ends with.
        if not path.exists() and path.name in model_names():
            return _MODELS / path.name / "config.json"
        return path / "config.json" if path.is_dir() else path
    raise Refused([unknown("model", name_or_path, model_names())])


def model(name_or_path: str) -> ModelSpec:
    """A model profile by name or hub id, or any model directory or config.json by path.

    Raises:
        Refused: unknown name, unreadable file, or not a mixture of experts.
    """
    return ModelSpec.from_path(model_config_path(name_or_path))


def hardware(name_or_path: str) -> HardwareProfile:
    """A hardware profile by name, or one of the user's own by the path of its YAML file.

    ``gpu`` is a key of ``hardware/gpus.yaml``, or a GPU's own fields.

    Raises:
        Refused: unknown name; the finding names the nearest one.
    """
    path = _HARDWARE / f"{name_or_path}.yaml" if name_or_path in hardware_names() else Path(name_or_path)
    if path.suffix != ".yaml" or not path.is_file():
        raise Refused([unknown("hardware", name_or_path, hardware_names())])
    document = _load(path)
    gpu = document["gpu"]
    return HardwareProfile.model_validate({**document, "gpu": _gpu(gpu) if isinstance(gpu, str) else gpu})


@cache
def _gpus() -> dict[str, GpuSpec]:
    return {key: GpuSpec.model_validate(value) for key, value in _load(_GPUS).items()}


def _gpu(key: str) -> GpuSpec:
    return _gpus()[key]


def _load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document
