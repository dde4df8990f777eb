"""The bench of recordings and advice: its figures, and that they are kept in CPU seconds wherever tests run."""

from tests.bench import experts


def test_the_advice_is_quick(tmp_path):
    found = experts._advice(tmp_path)
    assert found["rows"] == 17 + 9 + 5 + 3, "all valid redundancies of EP 8, 16, 32 and 64"
    assert found["cpu_s"] < experts.ADVICE_S


def test_an_analysis_is_quick(tmp_path):
    found = experts._analysis(tmp_path)
    assert found["cpu_s"] < experts.ANALYSIS_S
    assert list(tmp_path.iterdir()) == []


def test_a_large_recording_is_read_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(experts, "PASSES", 1500)
    assert experts._write(tmp_path / "a_0.pt")["gb"] > 0.1
    # Read as the bench does, in this process, which has more in memory than the reader needs.
    from wideloop.results import recordings

    found = recordings.read_dumps(tmp_path / "a_0.pt", "decode", layers=experts.LAYERS, experts=experts.EXPERTS)
    assert found.passes == {"decode": 1500}
    assert found.dense == (0, 1, 2)
