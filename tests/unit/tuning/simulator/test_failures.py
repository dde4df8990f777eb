"""What the simulated worker prints when it dies is what the diagnosis understands."""

import subprocess
import sys

import pytest
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Component
from wideloop.tuning.simulator import failures

from tests.unit.tuning.test_memory import H200, MOE8, memory

DECODE = Component(name="decode-0", role="decode")
FATAL = {
    "capture": {"fraction": 0.99, "max_bs": 512},
    "warm_up": {"redundant": 8, "fraction": 0.985, "max_bs": 512, "chunk": 32768},
    "under_load": {"redundant": 32, "fraction": 0.97, "max_bs": 512},
    "no_kv_left": {"fraction": 0.1},
}


@pytest.mark.parametrize("stage", FATAL)
def test_every_stage_is_diagnosed_as_out_of_memory(stage):
    result = memory(MOE8, **FATAL[stage])
    log = list(failures.lines(result.oom_stage, result, H200, FATAL[stage]["fraction"]))
    diagnosis = get_engine("simulated").diagnose(DECODE, log, -9)
    assert diagnosis.kind == "out_of_memory"
    assert diagnosis.component == "decode-0"
    if stage in ("capture", "under_load"):
        assert diagnosis.deficit_gib == pytest.approx(result.deficit_gib, abs=0.01)
    if stage == "no_kv_left":
        assert float(diagnosis.message.split("above ")[1].rstrip(")")) == pytest.approx(0.1379, abs=0.002)


def test_dying_ends_in_sigkill():
    code = (
        "from tests.unit.tuning.test_memory import H200, MOE8, memory\n"
        "from wideloop.tuning.simulator import failures\n"
        "failures.LOAD_S = 0\n"
        "r = memory(MOE8, fraction=0.1)\n"
        "failures.die(r.oom_stage, r, H200, 0.1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    assert "Raise --mem-fraction-static above 0.137" in done.stderr
