import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopick.core.errors import SelectionError
from tomopick.core.shards import Shard

NAMES = st.lists(st.text("abcXYZ019_-. é", min_size=1, max_size=6), max_size=60)


@given(NAMES, st.integers(1, 80), st.randoms())
def test_parts_are_disjoint_and_whole_in_whatever_order_the_runs_come(names, of, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    parts = [Shard(i + 1, of).part(names) for i in range(of)]
    assert sorted(run for part in parts for run in part) == sorted(set(names))  # each once
    assert parts == [Shard(i + 1, of).part(shuffled) for i in range(of)]
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_parse():
    assert Shard.parse("3/8") == Shard(3, 8) and str(Shard(3, 8)) == "3/8"
    for text, line in {
        "0/8": "`shard=0/8`: parts are counted from 1",
        "9/8": "`shard=9/8`: parts are counted from 1",
        "3": "`shard=3` is not I/N",
        "a/8": "'a' is no whole number",
        "-1/8": "'-1' is no whole number",
        "auto/x": "'x' is no whole number",
        "": "is not I/N",
    }.items():
        with pytest.raises(SelectionError, match=line):
            Shard.parse(text, {})


def slurm(i, ids):
    step = ids[1] - ids[0] if len(ids) > 1 else 1
    names = ("ID", i), ("MIN", min(ids)), ("MAX", max(ids)), ("COUNT", len(ids)), ("STEP", step)
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names}


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("auto", slurm(3, range(1, 9)), (3, 8)),
        ("auto", slurm(0, range(8)), (1, 8)),
        ("auto/64", slurm(7, [3, 7]), (7, 64)),  # two of the tasks are repeated
        ("auto/64", {"PBS_ARRAY_INDEX": "5"}, (5, 64)),
        ("auto/64", {"PBS_ARRAYID": "5"}, (5, 64)),
        ("auto", {"LSB_JOBINDEX": "2", "LSB_JOBINDEX_END": "4", "LSB_JOBINDEX_STEP": "1"}, (2, 4)),
        ("auto", {"SGE_TASK_ID": "2", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "4", "SGE_TASK_STEPSIZE": "1"}, (2, 4)),
    ],
)
def test_the_scheduler_says_which(text, environment, shard):
    assert Shard.parse(text, environment) == Shard(*shard)


@pytest.mark.parametrize(
    ("text", "environment", "line"),
    [
        ("auto", {}, "no task of an array of SLURM, PBS, Torque, LSF, SGE"),
        ("auto", slurm(7, [3, 7]), r"this SLURM array is not 1 to N \(3 to 7"),
        ("auto", slurm(1, [1, 2, 3, 9]), "not 1 to N"),
        ("auto", slurm(3, range(1, 9, 2)), "not 1 to N"),
        ("auto", {"PBS_ARRAY_INDEX": "5"}, r"PBS does not say how many tasks there are; write auto/N"),
        ("auto/4", {"PBS_ARRAY_INDEX": "5"}, "`shard=5/4`: parts are counted from 1"),
        ("auto", {"LSB_JOBINDEX": "0", "LSB_JOBINDEX_END": "0"}, "no task of an array"),
        ("auto", {"SGE_TASK_ID": "undefined"}, "no task of an array"),
    ],
)
def test_what_the_scheduler_does_not_say(text, environment, line):
    with pytest.raises(SelectionError, match=line):
        Shard.parse(text, environment)
