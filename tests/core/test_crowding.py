from tomopick.core.crowding import Waiting


def test_what_is_waited_for_is_a_share_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr("tomopick.core.crowding.CROWDED", 0.3)
    clock, stat = [100.0], tmp_path / "schedstat"
    monkeypatch.setattr("tomopick.core.crowding.time.monotonic", lambda: clock[0])
    stat.write_text("5000000000 1000000000 12\n")
    waiting = Waiting(stat)
    assert waiting.share() == 0 and waiting.line() == ""
    clock[0] = 110.0
    stat.write_text("7000000000 3000000000 40\n")
    assert waiting.share() == 0.2 and waiting.line() == ""
    stat.write_text("7000000000 7000000000 40\n")
    assert waiting.share() == 0.6
    assert waiting.line().startswith("the cores are crowded: 60% of the time was spent waiting for one")
    clock[0] = 101.0  # too soon to say
    assert waiting.share() == 6 and waiting.line() == ""


def test_where_nobody_counts_nothing_is_said(tmp_path):
    assert Waiting(tmp_path / "none").line() == ""
    (tmp_path / "empty").touch()
    assert Waiting(tmp_path / "empty").share() == 0
