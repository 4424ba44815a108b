"""How far trainings are, told from their folders."""

import json
import os
import re

import pytest
from click.testing import CliRunner

from small import TINY, memory, recipe
from tomopick import FitOptions, Runs, Source
from tomopick.cli import main
from tomopick.core.claims import claimed
from tomopick.core.errors import ModelError
from tomopick.recipes.as_published import begin_parts
from tomopick.recipes.plans import Wanted, plan_of
from tomopick.recipes.shares import Grounds
from tomopick.recipes.standing import FINISHED, INTERRUPTED, MISSING, RUNNING, plan_standing
from trainings import fit_until


def status(out, *more, code):
    done = CliRunner().invoke(main, ["status", str(out), *more])
    assert done.exit_code == code, done.output
    return done.output.splitlines()


def test_a_training(tmp_path):
    out = tmp_path / "model"
    fit_until(3, recipe(), out)
    (one,) = plan_standing(out).trainings
    assert (one.name, one.state, one.steps) == ("model", INTERRUPTED, 6) and one.step in (2, 3)
    first, second = status(out, code=1)
    assert first == "0 of 1 training finished, 1 interrupted" and f"  model: step {one.step} of 6, silent" in second
    assert second.endswith("nobody works there, so repeat the command with --resume")
    at = (out / "log.jsonl").stat().st_mtime
    os.utime(out / "recipe.json", (at - 30 * one.step, at - 30 * one.step))  # as if a step took half a minute
    with claimed(out):
        (running,) = plan_standing(out).trainings
        assert running.state == RUNNING and 0 < running.seconds_left <= 30 * (6 - one.step)
        first, second = status(out, code=1)
        assert first == "0 of 1 training finished, 1 running"
        assert re.fullmatch(rf"  model: step {one.step} of 6, \d min left", second)
    (out / "detector.json").write_text("{}")
    assert plan_standing(out).is_whole and status(out, code=0) == ["1 of 1 training finished"]
    assert status(out, "--failed", code=0) in ([], [""])


def test_a_plan(tmp_path):
    out = tmp_path / "plan"
    where = Grounds((Source(Runs(memory("ABC", shape=(16, 64, 32), n=6)), val_runs=["C"]),), ((),))
    plan = plan_of("light", Wanted(tuple(TINY), seeds=3, runs=tuple("ABC")))
    begin_parts(plan, where, out, FitOptions("cpu"))
    assert [t.state for t in plan_standing(out).trainings] == [MISSING] * 3
    (out / "members" / "seed0").mkdir(parents=True)
    (out / "members" / "seed0" / "detector.json").write_text("{}")
    fit_until(3, recipe(), out / "members" / "seed2")
    state = plan_standing(out)
    assert [t.state for t in state.trainings] == [FINISHED, MISSING, INTERRUPTED] and state.left == 2
    assert status(out, code=1)[0] == "1 of 3 trainings finished, 1 interrupted, 1 missing"
    for name in ("seed1", "seed2"):
        (out / "members" / name).mkdir(exist_ok=True)
        (out / "members" / name / "detector.json").write_text("{}")
    whole = ["3 of 3 trainings finished", "not put together yet: repeat the command with --resume"]
    assert status(out, code=1) == whole and plan_standing(out).left == 1
    (out / "ensemble.json").write_text("{}")
    assert status(out, code=0) == whole[:1]


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"plan": {"trainings": [3]}}))
    with pytest.raises(ModelError, match=r"plan\.json: names no trainings; expected what train writes"):
        plan_standing(tmp_path)
    (tmp_path / "plan.json").write_text(json.dumps({"plan": {"trainings": [{"name": "a", "recipe": {}}]}}))
    with pytest.raises(ModelError, match=r"plan\.json: does not say how many steps there are"):
        plan_standing(tmp_path)
