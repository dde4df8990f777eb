import os

from wideloop.tuning.simulator.addresses import set_host


def test_every_plane_of_dynamo_is_told_the_address(monkeypatch):
    for name in ("DYN_SYSTEM_HOST", "DYN_TCP_RPC_HOST", "DYN_EVENT_PLANE_HOST"):
        monkeypatch.setenv(name, "$(POD_IP)")
    set_host("10.0.0.7")
    told = {name: value for name, value in os.environ.items() if name.startswith("DYN_") and name.endswith("_HOST")}
    assert len(told) == 5
    assert set(told.values()) == {"10.0.0.7"}
