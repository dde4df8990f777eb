"""What an image with Dynamo's SGLang workers must hold, held against the list of the installed package itself."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from wideloop.manifests.engines import get_engine
from wideloop.manifests.images import dynamo_requirements
from wideloop.operators.settings import settings

_IMAGES = Path(dynamo_requirements.__file__).parent


@pytest.fixture(scope="module")
def simulated() -> Path:
    """The interpreter of the environment that holds ai-dynamo."""
    python = settings().environments / "simulated" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not built")
    return python


@pytest.fixture(scope="module")
def printed(simulated: Path) -> list[str]:
    program = [str(simulated), str(_IMAGES / "dynamo_requirements.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_list_is_the_packages_own_without_what_the_base_image_brings(simulated: Path, printed: list[str]) -> None:
    (folder,) = simulated.parents[1].glob("lib/python3*/site-packages/ai_dynamo-*.dist-info")
    wanted = [Requirement(text) for text in PathDistribution(folder).requires or ()]
    extras = {r.name for r in wanted if r.marker and 'extra == "sglang"' in str(r.marker)}
    always = {r.name for r in wanted if "extra" not in str(r.marker)}
    names = {Requirement(text).name for text in printed}
    # tomli is for interpreters before 3.11.
    assert names == (always | extras) - {*dynamo_requirements.LEFT_OUT, "tomli"}
    assert {"redis", "blake3", "uvloop", "nixl", "pyzmq", "aiohttp"} <= names


def test_versions_and_extras_are_kept(printed: list[str]) -> None:
    assert any(re.fullmatch(r"nixl\[cu13\]==[\d.]+", line) for line in printed)
    assert any(line.startswith("kubernetes") and "<33" in line for line in printed)


def test_a_worker_imports_nothing_that_the_image_lacks(simulated: Path, printed: list[str]) -> None:
    """Top-level imports of Dynamo's SGLang package: each is its own, the standard library's, SGLang's, or listed."""
    program = (
        "import ast, pathlib, sys, dynamo.sglang, dynamo.common\n"
        "tops = set()\n"
        "for package in (dynamo.sglang, dynamo.common):\n"
        "    for file in pathlib.Path(list(package.__path__)[0]).rglob('*.py'):\n"
        "        if 'test' in file.as_posix(): continue\n"
        "        for node in ast.parse(file.read_text()).body:\n"
        "            if isinstance(node, ast.Import): tops |= {a.name.partition('.')[0] for a in node.names}\n"
        "            if isinstance(node, ast.ImportFrom) and not node.level and node.module:\n"
        "                tops.add(node.module.partition('.')[0])\n"
        "print(*sorted(t for t in tops if t not in sys.stdlib_module_names))"
    )
    done = subprocess.run([str(simulated), "-c", program], capture_output=True, text=True, check=True)
    modules = {"zmq": "pyzmq", "PIL": "pillow", "prometheus_client": "prometheus-client", "cupy": "cupy-cuda13x"}
    listed = {Requirement(text).name for text in printed}
    # Of SGLang and of what it requires; the last ones are guarded by Dynamo itself.
    brought = {
        *("sglang", "sgl_kernel", "torch", "numpy", "pillow", "requests", "httpx", "fastapi", "uvicorn", "pydantic"),
        *("tokenizers", "safetensors", "huggingface_hub", "packaging", "psutil", "yaml", "av", "fsspec", "yarl"),
        *("typing_extensions", "gpu_memory_service", "aisimulate", "modelexpress"),
    }
    needed = {modules.get(name, name) for name in done.stdout.split()} - {"dynamo"}
    assert needed - listed <= brought


def test_the_smoke_test_imports_what_a_worker_runs() -> None:
    """``dynamo.sglang`` alone imports nothing: its main module imports the request handlers, and these redis."""
    assert "dynamo.sglang.main" in get_engine("dynamo-sglang").imports


def test_the_recipe_installs_from_the_list() -> None:
    recipe = (_IMAGES / "dynamo-sglang.Dockerfile").read_text()
    assert "dynamo_requirements.py > /opt/wideloop/requirements.txt" in recipe
    assert "-r /opt/wideloop/requirements.txt" in recipe
