import json
from dataclasses import replace

from small import BALL, trained, untrained
from tomopick.picking.cards import CARD, card_of, model_card, save_with_card, shortened
from tomopick.picking.ensemble import Ensemble
from tomopick.picking.folder import LearnedFrom, read_log, shipped
from tomopick.picking.load import load_model

RUNS = LearnedFrom("p", tuple(f"TS_{i:03d}" for i in range(300)), ("TS_900",))


def test_a_card_counts_runs_and_the_record_names_them(tmp_path):
    detector = untrained(
        learned_from=(RUNS,), provenance={"seed": 3, "measured_on": {"project": "p", "runs": ["A", "B"]}}
    )
    save_with_card(detector, tmp_path)
    text = (tmp_path / CARD).read_text()
    assert "- learned from 300 labelled runs, 1 validation run\n" in text and len(text.splitlines()) < 40
    told = json.loads(text.split("```json\n")[1].split("\n```")[0])
    assert told == {
        "seed": 3,
        "runs": [{"project": "p", "train": "300 runs: TS_000 to TS_299", "val": "1 run: TS_900"}],
        "measured_on": {"project": "p", "runs": "2 runs: A to B"},
    }
    assert load_model(tmp_path).facts.learned_from == (RUNS,)
    assert shortened({"members": ["a", "b"]}) == {"members": ["a", "b"]}


def test_a_card_says_on_how_many_particles_its_figures_rest():
    told = {"validation_particles": {"ball": 37, "ring": 0}, "validated_within": True}
    line = "- validated on 37 ball, 0 ring, in a part of the tomogram that was learned from: another one is harder"
    assert line in model_card(untrained(provenance=told)).splitlines()
    assert (
        "- validated on 37 ball, 0 ring"
        in model_card(untrained(provenance={**told, "validated_within": False})).splitlines()
    )
    assert "validated on" not in model_card(untrained())


def test_a_terminal_shows_all_but_the_provenance(tmp_path):
    one = load_model(trained())
    save_with_card(Ensemble.of([one, replace(one, name="other")]), tmp_path)
    shown = card_of(tmp_path)
    assert shown.startswith("# ensemble of 2: ball\n") and "Provenance" not in shown and shown.endswith("| 1 |")
    assert f"| ball | {one.thresholds['f1'][BALL.name]:.3f} |" in shown and "radius" not in shown
    assert "| ball | 40 |" in card_of(trained())


def test_the_shipped_models_card_is_what_it_would_be_now():
    assert (shipped()["default"] / CARD).read_text(encoding="utf-8") == model_card(load_model("default"))


def test_a_log_ends_before_its_first_row_that_is_none(tmp_path):
    good = ['{"step": 1, "loss": 0.5}', '{"step": 2, "loss": NaN, "val_f1": {"ball": 0.5}}']
    for bad in ('{"step": 3, "loss": [1]}', '{"loss": 1}', '{"step": 3, "val_f1": {"ball": "x"}}', "3", '{"step": 3'):
        (tmp_path / "log.jsonl").write_text("\n".join([*good, bad, *good]))
        assert [row["step"] for row in read_log(tmp_path / "log.jsonl")] == [1, 2]
    assert read_log(tmp_path / "none.jsonl") == []
