"""The model and hardware profiles that ship with the project, by name.

Model profiles are ``models/<name>/config.json``, hardware profiles ``hardware/<name>.yaml``; the
latter name their GPU by its key in ``hardware/gpus.yaml``. The listings read file names only: DAG
files call them to fill trigger forms, and parsing YAML there would be paid every few seconds.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import yaml
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown
from wideloop.manifests.hardware import GpuSpec, HardwareProfile
from wideloop.manifests.hub import hub_model, profile_of
from wideloop.manifests.hub_config import CONFIGS, hub_folder, is_hub_id
from wideloop.manifests.model import ModelSpec
from wideloop.manifests.own_profiles import read_profile

_HERE = Path(__file__).parent
_MODELS = _HERE / "models"
_HARDWARE = _HERE / "hardware"
_GPUS = _HARDWARE / "gpus.yaml"
#: Variable that names a folder of hardware profiles of one's own; also a setting, which refuses misspelt ones.
OWN_FOLDER = "WIDELOOP_PROFILES"
#: Characters of a name that a finding shows.
_LONGEST = 100


def model_names() -> tuple[str, ...]:
    """Names that :func:`model` accepts, sorted."""
    return tuple(sorted(p.parent.name for p in _MODELS.glob("*/config.json")))


def hardware_names() -> tuple[str, ...]:
    """Names that :func:`hardware` accepts, sorted."""
    return tuple(sorted({*_shipped(), *_own()}))


def hardware_titles() -> dict[str, str]:
    """The title of each hardware profile by its name, without parsing the files."""
    files = {**{name: _HARDWARE / f"{name}.yaml" for name in _shipped()}, **_own()}
    return {name: _title(files[name]) or name for name in sorted(files)}


def _title(file: Path) -> str:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line.partition(":")[2].strip(" '\"") for line in lines if line.startswith("title:")), "")


def model_config_path(name_or_path: str) -> Path:
    """The config.json of a shipped profile, of a model directory or file given by path, or of a hub id.

    A hub id of a shipped profile is that profile; the config of another is fetched from the hub, once.

    Raises:
        Refused: ``name_or_path`` is none of these, or the hub does not give it.
    """
    if name_or_path in model_names():
        return _MODELS / name_or_path / "config.json"
    path = Path(name_or_path)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # A name that no file can have: too long, or with a null character.
        exists = is_folder = False
    if not exists and is_hub_id(name_or_path):
        shipped = profile_of(name_or_path)
        return _MODELS / shipped / "config.json" if shipped else hub_folder(hub_model(name_or_path)) / "config.json"
    if "/" in name_or_path or exists:
        return path / "config.json" if is_folder else path
    raise Refused([unknown("model", name_or_path[:_LONGEST], model_names())])


def model(name_or_path: str) -> ModelSpec:
    """A model profile by name or hub id, or any model directory or config.json by path.

    Raises:
        Refused: unknown name, unreadable file, or not a mixture of experts.
    """
    path = model_config_path(name_or_path)
    # A config on the hub does not say its own name, by which its weights are found.
    is_fetched = path.parent.parent.name == CONFIGS
    return ModelSpec.from_path(path, name_or_path if is_fetched else None)


def hardware(name_or_path: str) -> HardwareProfile:
    """A hardware profile by name, or one of the user's own by the path of its YAML file; see :mod:`own_profiles`.

    Raises:
        Refused: unknown name, or the file is no profile; the findings name field, value, rule, and what works.
    """
    return read_profile(_hardware_path(name_or_path), gpus())


def _hardware_path(name_or_path: str) -> Path:
    if name_or_path in _shipped():
        return _HARDWARE / f"{name_or_path}.yaml"
    if name_or_path in _own():
        return _own()[name_or_path]
    if "/" not in name_or_path:
        raise Refused([unknown("hardware", name_or_path, hardware_names())])
    return Path(name_or_path)


def _shipped() -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in _HARDWARE.glob("*.yaml") if p != _GPUS))


def _own() -> dict[str, Path]:
    """Profiles of the folder that ``WIDELOOP_PROFILES`` names; a shipped profile keeps its name."""
    folder = os.environ.get(OWN_FOLDER)
    files = sorted(Path(folder).glob("*.yaml")) if folder else []
    return {path.stem: path for path in files if path.stem not in _shipped()}


@cache
def gpus() -> dict[str, GpuSpec]:
    """The GPUs of ``hardware/gpus.yaml``, by their keys."""
    return {key: GpuSpec.model_validate(value) for key, value in yaml.safe_load(_GPUS.read_text()).items()}
