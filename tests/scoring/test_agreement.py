"""What several pickers agree on."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import small
from tomopick.cli import main
from tomopick.core.types import Picks
from tomopick.data import read_picks_csv, write_picks_csv
from tomopick.scoring.agreement import agreed
from tomopick.scoring.curves import duplicates
from tomopick.scoring.matching import match

BALL = small.BALL  # radius 40 Å: picks within 20 Å are of one particle


def picks(*rows, name="ball"):
    """(x, score) on a line."""
    at = np.array([[0.0, 0.0, x] for x, _ in rows]).reshape(-1, 3)
    return Picks("A", at, np.full(len(at), name), np.array([score for _, score in rows]))


def test_what_two_agree_on_lies_in_the_middle():
    a, b = picks((0, 0.9), (500, 0.8), (900, 0.7)), picks((10, 0.5), (515, 0.6), (2000, 0.9))
    both = agreed("A", [a, b], [BALL])
    assert both.positions[:, 2].tolist() == [5.0, 507.5]
    np.testing.assert_allclose(both.scores, [0.7, 0.7])
    anybody = agreed("A", [a, b], [BALL], agree=1)
    assert sorted(anybody.positions[:, 2].tolist()) == [5.0, 507.5, 900.0, 2000.0]


def test_doubles_go_and_do_not_count_as_agreement():
    twice = picks((0, 0.9), (8, 0.8), (15, 0.7))
    assert agreed("A", [twice], [BALL], agree=1).positions[:, 2].tolist() == [0.0]
    assert len(agreed("A", [twice, Picks.empty("A")], [BALL])) == 0
    # Of each side the nearest to the best counts.
    one = agreed("A", [twice, picks((12, 0.1))], [BALL])
    assert one.positions[:, 2].tolist() == [6.0] and one.scores.tolist() == [0.5]


def test_three_of_which_two_agree():
    sides = [picks((0, 0.9), (300, 0.9)), picks((10, 0.8), (600, 0.8)), picks((5, 0.7), (610, 0.7))]
    found = agreed("A", sides, [BALL])
    assert found.positions[:, 2].tolist() == [5.0, 605.0]
    assert agreed("A", sides, [BALL], agree=3).positions[:, 2].tolist() == [5.0]


def test_what_was_said_of_the_members_is_not_said_of_their_middle():
    a, b = picks((0, 0.51), (300, 0.9)), picks((10, 0.41), (310, 0.8))
    a, b = (
        p.with_column("threshold", np.full(2, cut))
        .with_column("distance_mask", np.array([5.0, 7.0]))
        .with_column("turn", p.scores)
        for p, cut in ((a, 0.5), (b, 0.4))
    )
    found = agreed("A", [a, b], [BALL])
    assert len(found) == 2 and found.is_kept.all() and set(found.columns) == {"turn"}


def test_candidates_that_no_picker_kept_agree_on_nothing(tmp_path, told):
    rows = "object,x,y,z,score,threshold\nball,100,100,100,0.9,0.5\nball,500,100,100,0.2,0.5\n"
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(rows)
    out = tmp_path / "both.csv"
    arguments = ["merge", tmp_path / "a.csv", tmp_path / "b.csv", "--object", "ball:50", "--out", out]
    done = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0 and "left out: 1 candidate below the threshold" in done.stderr
    assert "at_thresholds" not in done.stderr and "at-thresholds" not in done.stderr
    (found,) = read_picks_csv(out).values()
    assert found.positions.tolist() == [[100.0, 100.0, 100.0]] and "threshold" not in found.columns


def test_objects_do_not_agree_with_one_another_and_rotations_are_the_best_ones():
    turned = np.array([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    a, b = replace(picks((0, 0.9)), rotations=turned), replace(picks((4, 0.5)), rotations=np.eye(3)[None])
    other = replace(picks((0, 0.9), name="ring"), rotations=np.eye(3)[None])
    found = agreed("A", [a, Picks.join("A", [b, other])], [BALL, small.RING])
    assert found.names.tolist() == ["ball"] and found.rotations.tolist() == turned.tolist()


def test_many_picks_agree_where_they_are_of_one_particle():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 20_000, (2000, 3))
    truth = truth[np.unique(np.round(truth / 100), axis=0, return_index=True)[1]]  # one in a box of 100 Å at most

    def seen(seed):
        own = np.random.default_rng(seed)
        at = truth + own.normal(0, 3, truth.shape)
        false = own.uniform(0, 20_000, (500, 3))
        return Picks("A", np.concatenate([at, false]), ["ball"] * (len(at) + 500), own.random(len(at) + 500))

    found = agreed("A", [seen(1), seen(2), seen(3)], [BALL], agree=3)
    assert duplicates({"A": found}, [BALL]) == {"ball": 0}
    hits = match(found.positions, found.scores, truth, 20.0)
    assert len(hits.truths) > 0.97 * len(truth) and len(hits.candidates) > 0.999 * len(found)
    off = np.linalg.norm(found.positions[hits.candidates] - truth[hits.truths], axis=1)
    assert np.sqrt((off**2).mean()) < 3.5  # a third of the variance of one picker's 5.2 Å, with a few strays


def test_merge_verb(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in ("merge", *arguments)])

    for name, shift in (("a", 0.0), ("b", 6.0)):
        for run, rows in (("A", [(0, 0.9), (400, 0.4)]), ("B", [(100, 0.8)])):
            drop = rows[:1] if name == "b" else rows
            moved = replace(picks(*[(x + shift, s) for x, s in drop]), run=run)
            write_picks_csv(tmp_path / name / f"{run}.csv", moved)
    places = tmp_path / "a", tmp_path / "b"
    assert "no radius" in call(*places, "--out", tmp_path / "o").stderr
    done = call(*places, "--object", "ball:40", "--out", tmp_path / "o")
    assert done.exit_code == 0 and "A: 1 ball" in done.stdout and "2 picks in" in done.stdout
    found = read_picks_csv(tmp_path / "o" / "A.csv")[""]
    assert found.positions[:, 2].tolist() == [3.0] and found.scores.tolist() == [0.9]
    assert call(*places, "--object", "ball:40", "--out", tmp_path / "o").exit_code == 0  # as it was written
    assert "exists already" in call(*places, "--object", "ball:40", "--out", tmp_path / "o", "--agree", 1).stderr
    done = call(*places, "--object", "ball:40", "--out", tmp_path / "all.csv", "--agree", 1, "--objects", "ball")
    assert done.exit_code == 0
    assert {run: len(p) for run, p in read_picks_csv(tmp_path / "all.csv").items()} == {"A": 2, "B": 1}
    refusal = call(*places, "--object", "ball:40", "--out", tmp_path / "x", "--agree", 3)
    assert refusal.exit_code == 2 and "--agree 3" in refusal.stderr and not (tmp_path / "x").exists()
    few = call(*places, "--object", "ball:40", "--out", tmp_path / "x", "--runs", "C")
    assert few.exit_code == 2 and "no picks of run 'C'" in few.stderr


@pytest.mark.parametrize("agree", [1, 2])
def test_nothing_in_common_is_no_picks(agree):
    found = agreed("A", [Picks.empty("A"), picks((0, 0.5))], [BALL], agree=agree)
    assert len(found) == (1 if agree == 1 else 0)


def test_a_folder_of_tables_that_was_cut_off_is_repeated(tmp_path):
    from tomopick.core.errors import OutputError
    from tomopick.core.types import PickableObject
    from tomopick.data.tables import write_tables

    objects = [PickableObject("ball", 60.0)]
    found = {run: Picks(run, np.ones((1, 3)), np.array(["ball"])) for run in ("A", "B")}
    write_tables(tmp_path, found, objects)
    (tmp_path / "B.csv").unlink()
    write_tables(tmp_path, found, objects)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.csv", "B.csv", "objects.json"]
    (tmp_path / "A.csv").write_text("somebody's\n")
    with pytest.raises(OutputError, match=r"A\.csv: exists already"):
        write_tables(tmp_path, found, objects)


def test_two_single_tables_are_of_one_run_whatever_they_are_called(tmp_path):
    first = picks((100, 1.0), (300, 0.9))
    for name, shift in (("picks", 0.0), ("truth", 4.0), ("far", 5000.0)):
        write_picks_csv(tmp_path / f"{name}.csv", first.shifted([shift] * 3))
    call = ["merge", str(tmp_path / "picks.csv"), "", "--object", "ball:100", "--out", str(tmp_path / "out.csv")]
    call[2] = str(tmp_path / "truth.csv")
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 0, done.output
    (kept,) = read_picks_csv(tmp_path / "out.csv").values()
    np.testing.assert_allclose(np.sort(kept.positions[:, 2]), [102, 302], atol=0.01)
    call[2] = str(tmp_path / "far.csv")
    done = CliRunner().invoke(main, [*call, "--overwrite"])
    assert done.exit_code == 2 and "no particle that 2 places agree on" in done.stderr and "--agree" in done.stderr
    assert len(done.stderr.splitlines()[-1:]) == 1 and "memory" not in done.stderr
