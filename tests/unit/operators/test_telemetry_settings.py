from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from wideloop.operators.settings import Settings

DCGM, SERVICE = "http://{host}:9400/metrics", "http://dcgm.gpu-operator:9400/metrics"


@pytest.mark.parametrize(
    ("urls", "hosts", "expected"),
    [
        (
            [DCGM],
            ["10.0.0.1", "10.0.0.2"],
            ("http://10.0.0.1:9400/metrics", "http://10.0.0.2:9400/metrics"),
        ),
        ([DCGM], ["fd00::1"], ("http://[fd00::1]:9400/metrics",)),
        ([DCGM], [], ()),
        (
            [SERVICE],
            ["10.0.0.1", "10.0.0.2"],
            (SERVICE,),
        ),
    ],
)
def test_exporters_are_those_of_the_hosts(urls: list[str], hosts: list[str], expected: tuple[str, ...], tmp_path: Path):
    settings = Settings(home=tmp_path, telemetry={"dcgm": urls, "node_exporter": urls})
    sources = settings.telemetry.sources(hosts)
    assert sources.dcgm == sources.node_exporter == expected


@pytest.mark.parametrize("setting", [{"dcgm": ["10.0.0.1:9400"]}, {"dcgm": ["http://"]}, {"dgcm": []}])
def test_a_setting_that_names_no_page_is_refused(setting: dict[str, list[str]], tmp_path: Path):
    with pytest.raises(ValidationError, match="telemetry"):
        Settings(home=tmp_path, telemetry=setting)
