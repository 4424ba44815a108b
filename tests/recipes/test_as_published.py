"""Published methods as one run: which trainings they are, and that they are carried out, resumed and put together."""

import json
from dataclasses import replace
from itertools import chain

import pytest

from small import BALL, RING, TINY, memory, trained
from telling import interrupted_at
from tomopick import FitOptions, Runs, Source, recipes
from tomopick.core.errors import ModelError, OutputError, RecipeError, SelectionError
from tomopick.core.shards import Shard
from tomopick.picking.ensemble import Ensemble
from tomopick.picking.folder import LearnedFrom, is_model
from tomopick.picking.load import load_detector, load_model
from tomopick.recipes.as_published import PlanLeft, begin_parts, carry_out, carry_out_part, left_of, runs_of
from tomopick.recipes.dry_run import look_ahead, table
from tomopick.recipes.plans import Plan, Training, Wanted, folds_of, plan_of, published
from tomopick.recipes.shares import Grounds, labelled_runs, unseen_runs

CZII = ("TS_5_4", "TS_69_2", "TS_6_4", "TS_6_6", "TS_73_6", "TS_86_3", "TS_99_9")
QUICK = ("tiling.shape=32,32,32", "tiling.overlap=8", *TINY, "train.steps=2", "train.validate_every=2")
SMALL = (*QUICK, "network.widths=4,8")
SLICED = ("tiling.step=8,16,16", "tiling.shape=16,32,32", *TINY[1:], "train.steps=2", "network.width=0.05")
NARROW = (*[o for o in QUICK if not o.startswith("network")], "network.width=0.05", "patch.shape=32,32,32")

FEW = {"shape": (16, 64, 32), "n": 6}  # voxels and particles of a run


def options(**more):
    return FitOptions("cpu", **more)


def grounds(runs="ABCD", simulated=None, types=("denoised",), names=None, **source):
    project = Runs(memory(runs, **FEW), names)
    simulations = Source(memory("PQ", **FEW), **(simulated or {})) if simulated is not None else None
    return Grounds((Source(project, **source),), (types,), simulations)


def wanted(where, overrides=SMALL, **more):
    return Wanted(
        tuple(overrides), tomo_types=where.tomo_types[0], runs=labelled_runs(where.sources[0]),
        simulated=where.simulated is not None, **more,
    )  # fmt: skip


# -- plans ---------------------------------------------------------------------------------------------------


def test_bpd_is_four_seeds():
    plan = published("bpd", Wanted(seed=3))
    assert [(t.name, t.seed, t.recipe) for t in plan.trainings] == [
        (f"seed{n}", n, recipes.get("bpd")) for n in (3, 4, 5, 6)
    ]
    assert plan.weights == "uniform" and len(published("bpd", Wanted(seeds=2)).members) == 2
    with pytest.raises(SelectionError, match="give the simulated project as a further PROJECT"):
        published("bpd", Wanted(simulated=True))


def test_the_soup_is_three_sizes_from_simulations_each_once_a_type():
    plan = published("soup_medium", Wanted(tomo_types=("denoised", "wbp"), simulated=True))
    assert [(t.name, t.start) for t in plan.members] == [
        (f"{size}-{kind}", f"pretrained-{size}") for size in ("tiny", "medium", "large") for kind in ("denoised", "wbp")
    ]
    assert {t.recipe.name for t in plan.trainings if t.simulated} == {"soup_tiny", "soup_medium", "soup_large"}
    assert plan.weights == "grid" and plan.members[1].tomo_type == "wbp"
    with pytest.raises(SelectionError, match=r"soup as published starts from simulated runs: .* `simulated`"):
        published("soup", Wanted())


def test_topcup_is_three_subsets_from_one_start():
    plan = published("topcup", Wanted(simulated=True))
    assert [(t.name, t.subset, t.start) for t in plan.trainings] == [
        ("pretrained", None, ""),
        ("runs6", 6, "pretrained"),
        ("runs12", 12, "pretrained"),
        ("runs24", 24, "pretrained"),
    ]
    assert [t.subset for t in published("topcup", Wanted(simulated=True, subsets=(1, 2))).members] == [1, 2]


def test_the_fourth_place_is_seven_folds_by_name_of_two_networks():
    plan = published("unet25d", Wanted(runs=CZII))
    by_network = {name: [t.val_runs for t in plan.members if t.recipe.name == name] for name in (
        "unet25d_convnext", "unet25d_resnetrs")}  # fmt: skip
    assert by_network == {
        "unet25d_convnext": [("TS_6_4",), ("TS_6_6",), ("TS_73_6",), ("TS_99_9",)],
        "unet25d_resnetrs": [("TS_5_4",), ("TS_69_2",), ("TS_86_3",)],
    }
    assert plan.members[0].name == "resnetrs-without-TS_5_4"
    others = published("unet25d_convnext", Wanted(runs=tuple("ABCDEFGHIJ")))
    assert [t.recipe.name for t in others.members] == ["unet25d_convnext"] * 4 + ["unet25d_resnetrs"] * 3
    assert [t.val_runs for t in others.members][:2] == [("A", "H"), ("B", "I")]
    assert len({t.start for t in published("unet25d", Wanted(runs=CZII, simulated=True)).members}) == 2


def test_semietpicker_is_one_training_whose_start_needs_no_teacher():
    plan = published("semietpicker", Wanted())
    assert len(plan.trainings) == 1 and plan.trainings[0].recipe.objective.semi_supervised
    first, second = published("semietpicker", Wanted(simulated=True)).trainings
    assert not first.recipe.objective.semi_supervised and second.start == first.name == "pretrained"


def test_what_is_simulated_is_labelled_completely():
    first, second = plan_of("light", Wanted(("loss.unlabelled=ignore",), simulated=True)).trainings
    assert first.simulated and first.recipe.loss.unlabelled == "negative"
    assert second.recipe.loss.unlabelled == "ignore"


def test_pieces_multiply():
    plan = plan_of("light", Wanted(seeds=2, folds=2, subsets=(1, 3), runs=("B", "A", "C")))
    assert len(plan.members) == 8
    assert plan.members[0].name == "without-A+C-runs1-seed0" and plan.members[0].val_runs == ("A", "C")
    assert len({t.name for t in plan.members}) == 8
    assert plan_of("light", Wanted()).trainings == (Training("light", recipes.get("light")),)


def test_topcup_as_released_is_two_seeds_of_three_configurations_on_all_runs():
    plan = published("topcup_released", Wanted(runs=CZII))
    assert [t.name for t in plan.trainings] == [
        f"{kind}-seed{n}" for kind in ("resnet34", "resnet34-deep", "efficientnet") for n in (0, 1)
    ]
    assert {t.val_runs for t in plan.members} == {()} and plan.mean == "logits"
    assert {(t.recipe.loss.particle, t.recipe.network.encoder) for t in plan.members} == {
        (256.0, "resnet34"), (64.0, "resnet34"), (64.0, "efficientnet-b3")}  # fmt: skip
    with pytest.raises(SelectionError, match="learns from experimental runs alone: leave `simulated` out"):
        published("topcup_released", Wanted(runs=CZII, simulated=True))


def test_the_soup_as_released_averages_the_weights_of_its_folds():
    plan = published("soup_released_big", Wanted(runs=CZII, simulated=True, tomo_types=("denoised", "wbp")))
    soups = {name: [t for t in plan.members if t.soup == name] for name in ("tiny", "medium", "big-one", "big-all")}
    assert {name: len(part) for name, part in soups.items()} == {"tiny": 7, "medium": 7, "big-one": 3, "big-all": 3}
    assert sorted(t.val_runs for t in soups["big-all"]) == [("TS_69_2",), ("TS_86_3",), ("TS_99_9",)]
    assert {name: part[0].tomo_type for name, part in soups.items()} == {
        "tiny": "denoised", "medium": None, "big-one": "denoised", "big-all": None}  # fmt: skip
    assert {t.name: t.subset for t in plan.trainings if t.simulated} == {
        "pretrained-tiny": 6, "pretrained-medium": 6, "pretrained-big": None}  # fmt: skip
    assert plan.mean == "logits" and plan.weights == "uniform"


@pytest.mark.parametrize("name", sorted({*recipes.PUBLISHED, *chain(*recipes.PUBLISHED.values())}))
def test_plans_can_be_told_apart_by_their_json(name):
    alone = name.startswith("bpd") or name == "topcup_released"
    asked = Wanted(runs=CZII, simulated=not alone, tomo_types=("denoised",))
    plan = published(name, asked)
    assert isinstance(plan, Plan) and json.loads(json.dumps(plan.to_json())) == plan.to_json()
    overridden = published(name, Wanted(("train.lr=0.5",), runs=CZII, simulated=asked.simulated))
    assert {t.recipe.train.lr for t in overridden.trainings} == {0.5} and overridden.to_json() != plan.to_json()
    assert len({t.name for t in plan.trainings}) == len(plan.trainings)


def test_folds_divide_the_runs_by_name():
    assert folds_of(["C", "A", "B", "D", "E"], 2) == [("A", "C", "E"), ("B", "D")]
    with pytest.raises(SelectionError, match=r"`folds=7`: 3 runs with picks \(A, B, C\) cannot be"):
        folds_of(["A", "B", "C"], 7)
    with pytest.raises(SelectionError, match="two folds or more"):
        folds_of(["A"], 1)


def test_what_is_not_published_says_so():
    with pytest.raises(SelectionError, match="nothing is published under the name 'topcap'; did you mean 'topcup'"):
        published("topcap", Wanted())
    with pytest.raises(RecipeError, match="no recipe 'bdp'; did you mean 'bpd'"):
        plan_of("bdp", Wanted())


# -- carrying out --------------------------------------------------------------------------------------------


def test_a_plan_goes_on_after_an_interruption_between_members_and_within_one(tmp_path, told):
    where = grounds()
    plan = published("bpd", wanted(where, (*SMALL, "train.steps=4"), seeds=2))
    whole = carry_out(plan, where, tmp_path / "whole", options())
    with pytest.raises(KeyboardInterrupt), interrupted_at("seed1: bpd"):
        carry_out(plan, where, tmp_path / "cut", options())
    with pytest.raises(KeyboardInterrupt), interrupted_at("step 2 of 4: loss"):
        carry_out(plan, where, tmp_path / "cut", options(resume=True))
    with pytest.raises(ModelError, match="its trainings are not finished; go on with them: train"):
        load_model(tmp_path / "cut")
    assert is_model(str(tmp_path / "cut"))  # not picks, so that a report says the same
    resumed = carry_out(plan, where, tmp_path / "cut", options(resume=True))
    assert "seed0: finished before" in told and "resumes at step 2 of 4" in told
    assert resumed.checksum == whole.checksum and resumed.thresholds == whole.thresholds
    assert [d.checksum for d in resumed.detectors] == [d.checksum for d in whole.detectors]
    assert load_model(tmp_path / "cut").checksum == resumed.checksum
    again = carry_out(plan, where, tmp_path / "cut", options(resume=True))
    assert again.checksum == resumed.checksum and "the ensemble was finished before" in told[-1]
    # All members were validated on the same run, whatever their seed.
    assert len({tuple(d.facts.learned_from[0].val) for d in whole.detectors}) == 1
    check_refusals(plan, where, tmp_path)


def check_refusals(plan, where, tmp_path):
    with pytest.raises(OutputError, match="exists already; expected a new folder"):
        carry_out(plan, where, tmp_path / "cut", options())
    with pytest.raises(OutputError, match="nothing to resume"):
        carry_out(plan, where, tmp_path / "nothing", options(resume=True))
    with pytest.raises(ModelError, match=r"begun with other trainings \(seed0, seed1, not seed0, seed1, seed2\)"):
        carry_out(published("bpd", wanted(where, seeds=3)), where, tmp_path / "cut", options(resume=True))
    with pytest.raises(ModelError, match="begun with other recipes or seeds"):
        carry_out(published("bpd", wanted(where, seeds=2)), where, tmp_path / "cut", options(resume=True))
    other = grounds("ABCDE")
    with pytest.raises(ModelError, match=r"begun with other data \(runs\)"):
        carry_out(plan, other, tmp_path / "cut", options(resume=True))


def test_the_soup_starts_from_simulations_and_weighs_its_members(tmp_path, told):
    where = grounds(simulated={}, val_runs=["D"])
    plan = published("soup", wanted(where))
    made = carry_out(plan, where, tmp_path / "soup", options())
    assert isinstance(made, Ensemble) and len(made.detectors) <= 3
    assert any(line.startswith("weights ") for line in told)
    assert made.facts.provenance["plan"] == "soup" and made.facts.provenance["measured_on"]["runs"] == ["D"]
    start = load_detector(tmp_path / "soup" / "pretrained-tiny")
    member = load_detector(tmp_path / "soup" / "members" / "tiny-denoised")
    assert member.facts.provenance["init_from"] == str(tmp_path / "soup" / "pretrained-tiny")
    assert [(list(part.train), list(part.val)) for part in start.facts.learned_from] == [(["P", "Q"], []), ([], ["D"])]
    assert not made.pick(where.sources[0].project.tomogram("D"), {"ball": 1.0})


def test_pretraining_learns_from_all_its_runs(tmp_path):
    def started(name, where, **more):
        plan = plan_of("light", wanted(where, **more))
        carry_out(plan, where, tmp_path / name, options())
        start = tmp_path / name / "pretrained"
        made = load_detector(start if start.is_dir() else tmp_path / f"{name}-pretrained")
        return [(list(part.train), list(part.val)) for part in made.facts.learned_from]

    assert started("named", grounds("AB", {"val_runs": ["Q"]})) == [(["P"], ["Q"])]
    assert started("chosen", grounds("AB", {}, val_runs=["B"])) == [(["P", "Q"], []), ([], ["B"])]
    # The runs of one fold may not choose what the other folds' networks start from.
    assert started("folds", grounds("AB", {}), folds=2) == [(["P", "Q"], [])]


def test_topcup_learns_from_growing_subsets(tmp_path):
    where = grounds(simulated={}, val_runs=["D"])
    with pytest.raises(SelectionError, match=r"runs6: 6 runs to learn from .* there are 3 .* `subset=1,3`"):
        carry_out(published("topcup", wanted(where, NARROW)), where, tmp_path / "no", options())
    assert not (tmp_path / "no").exists()
    plan = published("topcup", wanted(where, (*NARROW, "network.encoder=resnet34"), subsets=(1, 2)))
    made = carry_out(plan, where, tmp_path / "t", options())
    one, two = (set(d.facts.learned_from[0].train) for d in made.detectors)
    assert len(one) == 1 and len(two) == 2 and one < two


def test_the_fourth_place_is_measured_out_of_fold(tmp_path, told):
    where = grounds("AB")
    plan = published("unet25d", wanted(where, (*SLICED, "patch.shape=16,32,32"), folds=2))
    made = carry_out(plan, where, tmp_path / "u", options())
    assert [d.method.name for d in made.detectors] == ["unet25d_convnext", "unet25d_resnetrs"]
    assert [d.facts.learned_from for d in made.detectors] == [
        (LearnedFrom("memory", ("B",), ("A",)),),
        (LearnedFrom("memory", ("A",), ("B",)),),
    ]
    assert sum("predicted by 1 of 2 members" in line for line in told) == 2
    assert made.facts.provenance["measured_on"]["runs"] == ["A", "B"]


def test_semietpicker_gives_one_model(tmp_path):
    where = grounds("ABCD", names=["A"], val_runs=["B"], unlabelled_runs=("C", "D"), simulated={})
    plan = published("semietpicker", wanted(where, NARROW))
    made = carry_out(plan, where, tmp_path / "s", options())
    assert made.checksum == load_detector(tmp_path / "s").checksum
    assert made.facts.learned_from[0].unlabelled == ("C", "D")
    assert (tmp_path / "s-pretrained" / "detector.json").is_file()
    with pytest.raises(OutputError, match="exists already"):
        carry_out(plan, where, tmp_path / "s", options())
    assert carry_out(plan, where, tmp_path / "s", options(resume=True)).checksum == made.checksum
    other = published("semietpicker", wanted(where, [*NARROW, "train.lr=5e-4"]))
    with pytest.raises(ModelError, match=r"begun with train.lr=0.001, not 0.0005; resume"):
        carry_out(other, where, tmp_path / "s", options(resume=True))


def test_several_types_of_the_same_runs_are_learned_from_together(tmp_path):
    project = memory("ABC")
    for run in "ABC":  # the same particles in tomograms of another type
        shown = project.tomogram(run)
        project.add(type(shown)(run, 0.5 * shown.values, shown.grid, "wbp"), project.picks(run))
    where = Grounds((Source(project, val_runs=["C"]),), (("denoised", "wbp"),))
    made = carry_out(plan_of("light", wanted(where)), where, tmp_path / "m", options())
    assert made.facts.tomo_types == ("denoised", "wbp")
    parts = [(list(part.train), list(part.val)) for part in made.facts.learned_from]
    assert parts == [(["A", "B"], ["C"]), (["A", "B"], [])]
    alone = Grounds((Source(memory("A")),), (("denoised", "wbp"),))
    with pytest.raises(SelectionError, match="several tomogram types of the only labelled run A"):
        carry_out(plan_of("light", wanted(alone)), alone, tmp_path / "n", options())


def test_members_without_validation_runs_keep_the_mean_of_their_thresholds(tmp_path, told):
    where = grounds("A")
    made = carry_out(plan_of("light", wanted(where, seeds=2)), where, tmp_path / "m", options())
    assert len(made.detectors) == 2 and "not measured on any run: thresholds are the mean of the models'" in told
    simulated = grounds("A", simulated={})
    with pytest.raises(SelectionError, match="soup weighs its members on validation runs and there is none"):
        carry_out(published("soup", wanted(simulated)), simulated, tmp_path / "s", options())
    assert made.objects == (BALL,)


def test_folds_whose_weights_are_averaged_make_one_member_each(tmp_path):
    where = grounds("ABC", {})
    recipe = recipes.get("light").override(list(SMALL))
    trainings = [Training(f"{s}{run}", recipe, 0, (run,), soup=s) for s in ("one", "two") for run in "AB"]
    made = carry_out(Plan("light", tuple(trainings), mean="logits"), where, tmp_path / "m", options())
    assert [d.facts.provenance["shares"] for d in made.detectors] == ["uniform"] * 2 and made.mean == "logits"
    assert [len(d.facts.provenance["soup"]) for d in made.detectors] == [2, 2]
    again = carry_out(Plan("light", tuple(trainings), mean="logits"), where, tmp_path / "m", options(resume=True))
    assert again.checksum == made.checksum


def test_on_all_runs_means_all_unless_some_are_named():
    recipe = recipes.get("light").override(list(SMALL))
    plan = Plan("light", (Training("a", recipe, val_runs=()),))
    assert [row[1:4] for row in runs_of(plan, grounds("ABCDE"), options())] == [(5, 0, 0)]
    assert [row[1:4] for row in runs_of(plan, grounds("ABCDE", val_runs=["B"]), options())] == [(4, 1, 0)]


def test_a_look_ahead_tells_runs_steps_and_what_they_cost(tmp_path):
    where = grounds("ABCD", {}, val_runs=["D"])
    plan = published("topcup", wanted(where, (*NARROW, "network.encoder=resnet34"), subsets=(1, 2)))
    rows = look_ahead(plan, where, options())
    assert [(r.name, r.train, r.val, r.start) for r in rows] == [
        ("pretrained", 2, 1, ""), ("runs1", 1, 1, "pretrained"), ("runs2", 2, 1, "pretrained")]  # fmt: skip
    parameters = sum(p.numel() for p in plan.trainings[0].recipe.network.build(1).parameters())
    assert all(r.steps == 2 and r.seconds > 0 and r.memory > 4 * parameters for r in rows)
    text = table(rows).splitlines()
    assert len(text) == 2 + 3 + 2 and "3 training(s)" in text[-1]
    with pytest.raises(SelectionError, match=r"runs6: 6 runs to learn from"):
        look_ahead(published("topcup", wanted(where, NARROW)), where, options())


def test_a_look_ahead_says_what_the_training_would(tmp_path):
    where, folder = grounds("ABCD", val_runs=["D"]), tmp_path / "weights"
    plan = plan_of("topcup", wanted(where, (*QUICK[:2], *QUICK[3:], "patch.shape=32,32,32", "train.batch_size=2")))
    assert [r.start for r in look_ahead(plan, where, options())] == [
        "efficientnet_b3.ra2_in1k, if it can be fetched; else random weights"]  # fmt: skip
    with pytest.raises(ModelError, match="no folder; expected one with weights under timm's file names"):
        look_ahead(plan, where, options(weights_folder=str(folder)))
    folder.mkdir()
    (folder / "efficientnet_b3-a.pth").touch()
    assert look_ahead(plan, where, options(weights_folder=str(folder)))[0].start == str(
        folder / "efficientnet_b3-a.pth"
    )
    (folder / "efficientnet_b3-b.pth").touch()
    for carried_out in (look_ahead, lambda *a: carry_out(*a[:2], tmp_path / "m", a[2])):
        with pytest.raises(
            ModelError, match=r"efficientnet_b3-a.pth, efficientnet_b3-b.pth may all be efficientnet_b3"
        ):
            carried_out(plan, where, options(weights_folder=str(folder)))
    both = Grounds((Source(memory("ABCD", (BALL, RING), **FEW), val_runs=["D"]),), (("denoised",),), None)
    for source in both.sources:
        for run in source.project.runs():
            only = source.project.picks(run).of("ball")
            source.project.add(source.project.tomogram(run), only)
    with pytest.raises(SelectionError, match="object 'ring' has no picks in the training runs"):
        look_ahead(plan_of("light", wanted(both)), both, options())


def test_a_look_ahead_takes_the_steps_that_the_training_does(tmp_path):
    where, small = grounds("ABCD", {}, val_runs=["D"]), (*SMALL, "train.steps_from_model=1", "network.widths=2,2")
    plan = plan_of("light", wanted(where, small))
    rows = look_ahead(plan, where, options())
    assert [(r.name, r.steps) for r in rows] == [("pretrained", 2), ("light", 1)]
    carry_out(plan, where, tmp_path / "m", options())
    logs = (tmp_path / folder / "log.jsonl" for folder in ("m-pretrained", "m"))
    assert [len(log.read_text().splitlines()) for log in logs] == [2, 1]
    alone = grounds("ABCD", val_runs=["D"])
    one = plan_of("light", wanted(alone, small))
    assert [r.steps for r in look_ahead(one, alone, options())] == [2]
    assert [r.steps for r in look_ahead(one, alone, options(init_from=str(trained())))] == [1]


def test_a_look_ahead_knows_what_a_model_holds_to_which_is_added(tmp_path):
    held = Grounds((Source(memory("ABCD", (BALL, RING), **FEW), val_runs=["D"]),), (("denoised",),), None)
    for source in held.sources:
        for run in source.project.runs():
            source.project.add(source.project.tomogram(run), source.project.picks(run).of("ring"))
    plan = plan_of("light", wanted(held, (*QUICK, "train.steps_from_model=1")))
    given = options(init_from=str(trained()), add=("ring",))
    assert [r.steps for r in look_ahead(plan, held, given)] == [2]
    made = carry_out(plan, held, tmp_path / "m", given)
    assert [o.name for o in made.objects] == ["ball", "ring"]
    with pytest.raises(SelectionError, match=r"`add=ball`: .* knows it already"):
        look_ahead(plan, held, options(init_from=str(trained()), add=("ball",)))


def test_nothing_is_added_to_what_is_pretrained(tmp_path):
    where = grounds("ABCD", {}, val_runs=["D"])
    plan, given = plan_of("light", wanted(where)), options(init_from=str(trained()), add=("ring",))
    for carried_out in (look_ahead, lambda *a: carry_out(*a[:2], tmp_path / "m", a[2])):
        with pytest.raises(SelectionError, match=r"`add=ring`: what is pretrained on `simulated` learns the objects"):
            carried_out(plan, where, given)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 2])
def test_a_look_ahead_takes_patches_of_a_single_value_where_batches_are_larger(size):
    where = grounds("ABCD", val_runs=["D"])
    small = (*QUICK[:2], "patch.shape=16,16,16", "network.widths=2,2,2,2", f"train.batch_size={size}")
    plan = plan_of("light", wanted(where, small))
    if size > 1:
        (row,) = look_ahead(plan, where, options())
        assert row.seconds > 0 and row.memory > 0
    else:
        with pytest.raises(RecipeError, match="batches of 1 patch of 16,16,16 leave a single value"):
            look_ahead(plan, where, options())


def test_a_refused_plan_leaves_no_folder_and_names_the_fields_of_what_it_pretrains_on(tmp_path):
    where = grounds("ABCD", {}, val_runs=["D"])
    project = where.simulated.project
    for run in project.runs():
        project.write_tomogram(replace(project.tomogram(run), tomo_type="wbp"))
    plan = published("topcup", wanted(where, (*NARROW, "network.encoder=resnet34"), subsets=(1, 2)))
    with pytest.raises(SelectionError, match=r"several tomograms; say which with `simulated.tomo_type`"):
        carry_out(plan, where, tmp_path / "m", options())
    assert not any(tmp_path.iterdir())


# -- in parts ------------------------------------------------------------------------------------------------


def test_parts_of_a_plan_make_the_whole(tmp_path, told):
    where = grounds(simulated={}, val_runs=["D"])
    plan = plan_of("light", wanted(where, seeds=2))
    whole = carry_out(plan, where, tmp_path / "whole", options())

    def part(i):
        return carry_out_part(plan, where, tmp_path / "parts", options(), Shard(i, 3))

    assert begin_parts(plan, where, tmp_path / "parts", options()).order  # whoever hands them out
    assert left_of(plan, tmp_path / "parts") == PlanLeft((1,), (2, 3), 3, True)
    assert unseen_runs(plan, where, options()) == ["D"]
    line = "starts from pretrained, which is not finished; train that part first: 1/3"
    with pytest.raises(SelectionError, match=line):
        part(2)
    assert [part(1), part(3)] == [["pretrained"], ["seed1"]]
    assert left_of(plan, tmp_path / "parts") == PlanLeft((), (2,), 3, True)
    assert [part(2), part(3)] == [["seed0"], ["seed1"]]
    assert "seed1: finished before" in told
    with pytest.raises(OutputError, match="exists already"):
        carry_out(plan, where, tmp_path / "parts", options())
    made = carry_out(plan, where, tmp_path / "parts", options(resume=True))
    assert made.checksum == whole.checksum
    assert [d.checksum for d in made.detectors] == [d.checksum for d in whole.detectors]
    assert left_of(plan, tmp_path / "parts") == PlanLeft((), (), 3, False)
    assert unseen_runs(plan_of("light", wanted(where, folds=2)), where, options()) == []
    one = plan_of("light", wanted(where, seeds=1))
    assert left_of(one, tmp_path / "one") is None
    with pytest.raises(SelectionError, match="is one training, which has no parts"):
        carry_out_part(one, where, tmp_path / "one", options(), Shard(1, 2))
