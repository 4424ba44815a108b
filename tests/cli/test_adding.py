"""`train --add`: what cannot be added is refused before projects are looked over, and old objects' picks are read."""

import pytest
from click.testing import CliRunner

from small import BALL, RING, folder, memory, recipe, trained
from telling import heard
from tomopick.cli import main
from tomopick.cli.grounds import _negatives
from tomopick.core.errors import SelectionError
from tomopick.data import open_project
from tomopick.data.open import open_projects
from tomopick.training.dataset import gather
from tomopick.training.sources import Source


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tomograms whose tables have balls and rings."""
    return folder(tmp_path_factory.mktemp("adding") / "vols", objects_json=False, objects=(BALL, RING))


def said(place, *words):
    done = CliRunner().invoke(main, ["train", "light", str(place), str(place.parent / "m"), *words, "--dry-run"])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--add", "ring:30"], "error: --add ring: expected a model to add it to"),
        (["--init-from", "M", "--add", "ball:30"], "knows it already; leave --add out"),
        (["--init-from", "M", "--add", "ring:30", "--objects", "ring"], "leave --objects out"),
        (["--init-from", "M", "--add", "ring:30", "--object", "ball:77"], "error: --object ball:77: "),
        (["--init-from", "M", "--add", "ring:30", "--object", "ring:77"], "error: --add ring:30: 'ring:77' was given"),
        (["--init-from", "M", "--add", "ring:30", "--from-map", __file__], "leave --add out"),
        (
            ["--init-from", "M", "--add", "ring:30", "--pretrain", __file__],
            "error: --add ring: what is pretrained on "
            "--pretrain learns the objects that are there, and nothing can be added to it; leave one of them out",
        ),
    ],
)
def test_what_cannot_be_added_is_said_before_the_projects_are_looked_over(place, words, line):
    code, output = said(place, *(str(trained(BALL)) if word == "M" else word for word in words))
    assert code == 2 and line in output and output.count("\n") == 1


def test_picks_of_old_objects_are_learned_from_where_a_folder_lists_none(place):
    code, output = said(place, "--init-from", str(trained(BALL)), "--add", "ring:30")
    assert code == 0 and "left out" not in output
    project = open_project(place, objects=["ring:30"], held=["ball:40.0"])
    assert {o.name: o.radius for o in project.objects} == {"ring": 30.0, "ball": 40.0}
    assert set(project.picks("A").names.tolist()) == {"ball", "ring"}
    open_projects([str(place)], objects=["ring:30"], held=["ball:40.0"], regions=["A:ball=:,:,:"])


def test_one_query_of_negatives_is_for_those_projects_that_keep_picks(place):
    both = [open_project(place), memory()]
    assert [_negatives(("*:me/1",), i, both) for i in range(2)] == [None, "*:me/1"]
    assert [_negatives(("*:me/1", ""), i, both) for i in range(2)] == ["*:me/1", ""]
    assert _negatives(("*:me/1",), 0, both[:1]) == "*:me/1"  # which is refused, and told why


def test_picks_that_are_left_out_are_told_once(tmp_path):
    place = folder(tmp_path / "vols", objects=(BALL, RING))
    with heard() as told:
        project = open_project(place)
        for _ in range(2):
            assert set(project.picks("A").names.tolist()) == {"ball"}
    assert told == [f"warning: {place}/A.csv: picks of ring are left out; the objects are ball"]


def test_an_object_that_the_tables_call_by_another_name(place):
    for name, why in (("RING", "did you mean 'ring'"), ("cube", r"name other runs \(the tables name ball, ring\)$")):
        source = Source(open_project(place, objects=[f"{name}:30"]), val_runs=["B"])
        with pytest.raises(SelectionError, match=f"object '{name}' has no picks in the training runs; {why}"):
            gather(recipe(), [source])
