"What a run may say of the paper: the right word for each outcome, and never a mistaken one"

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from arabic_dialog.core.files import load_csv, save_text
from arabic_dialog.core.settings import Profile, load_profile
from arabic_dialog.reporting.claims import Estimate, VERDICTS, claims_ledger, judge, load_claims
from arabic_dialog.reporting.claims import planned_order, range_over, rated_estimate
from arabic_dialog.reporting.comparable import Departure, Shape, departures, is_comparable
from arabic_dialog.reporting.comparable import record_shapes
from arabic_dialog.reporting.results import open_run

DATA = Path(__file__).resolve().parents[2] / "data"
CLAIMS = {c.id: c for c in load_claims(DATA / "claims.csv")}
BY_INTERVAL = ("C8", "C9", "C10", "C11")
TOY = [Departure("size", "n_scenarios", "300", "43316")]
PAPER = load_profile("paper").model_dump(mode="json", by_alias=True)
SHAPES = {
    "inceptionai/jais-13b-chat": ("jais", 5120, 40, 84992),
    "riotu-lab/ArabianGPT-08B-V2": ("gpt2", 1280, 36, 64002),
    "aubmindlab/aragpt2-mega": ("aragpt2", 1536, 48, 64000),
}


def near(value, half):
    return {"value": value, "low": value - half, "high": value + half}


def compared(rival, difference, p):
    return {"rival": rival, "difference": difference, "p": p, "p_holm": p}


ALL_AHEAD = {"planned": [compared(r, 0.1, 0.002) for r in ("aragpt2", "qwen")], "missing": []}
# (claim, value at the paper's size, how, the word)
OUTCOMES = [
    ("C1", 43_316, {}, "set by the profile"),
    ("C1", 12, {}, "set by the profile"),
    ("C4", "Jais-13b-chat", {}, "set by the profile"),
    ("C5", "ArabianGPT-08B-V2, AraGPT2-mega", {}, "set by the profile"),
    ("C6", near(0.823, 0.01), {}, "another definition"),
    ("C7", ALL_AHEAD, {}, "another definition"),
    ("C7", {"planned": [compared("aragpt2", -0.1, 0.9)], "missing": []}, {}, "another definition"),
    ("C7", ALL_AHEAD | {"missing": ["gemma"]}, {}, "inconclusive"),
    ("C7", {"planned": [], "missing": []}, {}, "inconclusive"),
    ("C7", True, {}, "inconclusive"),  # of an earlier version
    ("C8", near(9.4, 0.3), {}, "reproduced"),
    ("C8", near(9.7, 0.5), {}, "reproduced"),
    ("C8", near(9.4, 3), {}, "inconclusive"),
    ("C8", near(12, 1), {}, "not reproduced"),
    ("C8", near(7, 0.3), {}, "not reproduced"),
    ("C8", near(9.7, 0.1), {}, "inconclusive"),
    ("C8", 9.4, {}, "inconclusive"),
    ("C8", {"value": 9.4, "low": None, "high": None}, {}, "inconclusive"),
    ("C8", {"value": 9.4, "low": 9.4, "high": 9.4}, {}, "inconclusive"),
    ("C8", {"value": 9.4, "low": -math.inf, "high": math.inf}, {}, "inconclusive"),
    ("C8", near(math.nan, 1), {}, "not run"),
    ("C8", "nine", {}, "not run"),
    ("C8", None, {}, "not run"),
    ("C9", [near(0.25, 0.1), near(0.7, 0.1)], {}, "reproduced"),
    ("C9", [near(0.25, 0.1), near(0.5, 0.1)], {}, "not reproduced"),
    ("C9", [near(0.25, 0.1), near(0.7, 0.3)], {}, "inconclusive"),
    ("C9", [0.229, 0.739], {}, "inconclusive"),  # of an earlier version: no intervals
    ("C9", [], {}, "not run"),
    ("C9", [near(0.25, 0.1), near(0.7, 0.1)], {"simulated": True}, "not run"),
    ("C10", [near(0.43, 0.1), near(0.75, 0.1)], {}, "reproduced"),
    ("C10", [near(0.1, 0.05), near(0.75, 0.1)], {}, "not reproduced"),
    ("C11", near(4.2, 0.2), {}, "reproduced"),
    ("C11", near(4.2, 1), {}, "inconclusive"),
    ("C11", near(3.5, 0.2), {}, "not reproduced"),
    ("C11", near(4.2, 0.2), {"simulated": True}, "not run"),
]


@pytest.mark.parametrize("name, value, how, word", OUTCOMES)
def test_the_right_word_for_each_outcome(name, value, how, word):
    judgement = judge(CLAIMS[name], value, **how)
    assert judgement.verdict == word and word in VERDICTS and judgement.why
    toy = judge(CLAIMS[name], value, TOY, **how).verdict
    assert toy in ("not comparable at this scale", "not run")


def wider(rng, value):
    "The same value, of which less is known"
    if isinstance(value, list):
        return [wider(rng, v) for v in value]
    low, high = (value["value"] - value["low"], value["high"] - value["value"])
    more = {end: rng.choice([0, rng.expovariate(1), rng.expovariate(0.1)]) for end in "lh"}
    return {
        "value": value["value"],
        "low": value["value"] - low - more["l"],
        "high": value["value"] + high + more["h"],
    }


def some_estimate(rng, low, high):
    "An estimate about a published range, near it or far"
    value = rng.choice([low, high]) + rng.choice([0, rng.gauss(0, 0.05), rng.gauss(0, 1)])
    below, above = (rng.choice([0.0, 0.01, rng.expovariate(5), 1.0]) for _ in range(2))
    return {"value": value, "low": value - below, "high": value + above}


def some_value(rng, claim):
    if claim.id in ("C8", "C11"):
        return some_estimate(rng, claim.low, claim.high)
    return [some_estimate(rng, end, end) for end in (claim.low, claim.high)]


def test_more_uncertainty_never_turns_one_verdict_into_the_other():
    rng, seen = random.Random(0), set()
    for _ in range(20_000):
        claim = CLAIMS[rng.choice(BY_INTERVAL)]
        value = some_value(rng, claim)
        first, second = judge(claim, value).verdict, judge(claim, wider(rng, value)).verdict
        seen.add((first, second))
        assert (first, second) != ("not reproduced", "reproduced"), (claim.id, value)
        assert (first, second) != ("reproduced", "not reproduced"), (claim.id, value)
    assert {("not reproduced", "inconclusive"), ("reproduced", "inconclusive")} <= seen
    assert {("not reproduced", "not reproduced"), ("reproduced", "reproduced")} <= seen


def spoiled(rng, value):
    "A value of which something is missing or no number"
    if isinstance(value, list):
        k = rng.randrange(len(value))
        return rng.choice([value[:1], [], [*value[:k], spoiled(rng, value[k]), *value[k + 1 :]]])
    hole = rng.choice([None, math.nan, math.inf, -math.inf, "x", True])
    key = rng.choice(["value", "low", "high"])
    without = {k: v for k, v in value.items() if k != key}
    return rng.choice([value | {key: hole}, without, None, math.nan, "", value["value"]])


def test_nan_missing_and_toy_runs_are_never_judged():
    rng = random.Random(1)
    for _ in range(10_000):
        claim = CLAIMS[rng.choice(list(CLAIMS))]
        value = some_value(rng, CLAIMS[rng.choice(BY_INTERVAL)])
        reasons = TOY if rng.random() < 0.5 else ()
        if not reasons:
            value = spoiled(rng, value)
        word = judge(claim, value, reasons).verdict
        assert word not in ("reproduced", "not reproduced"), (claim.id, value)


# The run


@pytest.fixture
def made_up(tmp_path):
    "Write a made-up run; gives its results"

    def write(models=None, results=(), trained=None, **changes):
        about = {"profile": "mine", "config": PAPER | changes, "data_hash": "0"}
        if models is not None:
            about["models"] = models
        save_text(tmp_path / "run.json", json.dumps(about))
        for name, values in dict(results).items():
            left = {"values": values, "simulated": False}
            save_text(tmp_path / f"paper/{name}/result.json", json.dumps(left))
        for name, config in (trained or {}).items():
            save_text(tmp_path / f"train/{name}/config.json", json.dumps(config))
        return open_run(tmp_path)

    return write


def config_of(model_type, width, layers, vocabulary):
    sizes = {"n_embd": width, "n_layer": layers, "vocab_size": vocabulary}
    return {"model_type": model_type} | sizes


def test_the_shipped_profile_is_what_the_file_of_comparison_says():
    table = load_csv(DATA / "comparable.csv")
    rows = {r["key"]: r for r in table}
    assert len(rows) == len(table), "a key has two rows"
    keys = {f.alias or name for name, f in Profile.model_fields.items()}
    assert rows.keys() == keys, "data/comparable.csv has a row for each key of a profile"
    kinds = {"size", "model", "rater", "decoding", "free"}
    assert {r["kind"] for r in rows.values()} == kinds and all(r["why"] for r in rows.values())
    assert is_comparable({"config": PAPER}), "change settings.ini and data/comparable.csv together"
    for profile in ("offline", "smoke"):
        assert not is_comparable({"config": load_profile(profile).model_dump(by_alias=True)})


def other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return value[:-1] if value else ["other"]
    return value * 2 + 1 if isinstance(value, int | float) else "other"


@pytest.mark.parametrize(
    "key",
    [
        r["key"]
        for r in load_csv(DATA / "comparable.csv")
        if r["kind"] != "free" and r["key"] != "pretrain_steps"
    ],
)
def test_each_overridden_key_is_a_reason(made_up, key):
    (reason,) = departures(made_up(**{key: other(PAPER[key])}))
    assert reason.key == key and key in str(reason)


def test_pretraining_counts_where_something_is_pretrained(made_up):
    assert departures(made_up(pretrain_steps=9)) == []  # published models are not
    named = {d.key for d in departures(made_up(pretrain_steps=9, checkpoints=["new:gpt2"] * 2))}
    assert {"pretrain_steps", "checkpoints"} <= named


def test_free_keys_and_other_seeds_are_no_reason(made_up):
    assert departures(made_up(workers=8, endpoint_timeout=9, finetune_learning_rate=1e-4)) == []
    assert departures(made_up(seeds=[7 + n for n in range(len(PAPER["seeds"]) + 1)])) == []
    assert [d.key for d in departures(made_up(comparable=False))] == ["comparable"]


def test_what_a_run_does_not_record_is_a_reason(made_up, tmp_path):
    run = made_up()
    about = json.loads((tmp_path / "run.json").read_text())
    del about["config"]["temperature"]
    save_text(tmp_path / "run.json", json.dumps(about))
    assert [d.key for d in departures(open_run(run.path))] == ["temperature"]


def test_a_folder_is_known_by_its_recorded_shape(made_up):
    jais = config_of(*SHAPES["inceptionai/jais-13b-chat"])
    gpt = config_of(*SHAPES["riotu-lab/ArabianGPT-08B-V2"])
    mega = config_of(*SHAPES["aubmindlab/aragpt2-mega"])
    local = {"/m/jais": jais, "/m/gpt": gpt | {"vocab_size": 64010}, "/m/mega": mega}
    named = {"generator": "/m/jais", "checkpoints": ["/m/gpt", "/m/mega"]}
    assert departures(made_up(models=local, **named)) == []
    assert [d.key for d in departures(made_up(**named, models={}))] == [
        *("generator", "checkpoints", "checkpoints")
    ]
    for change in ({"n_layer": 2}, {"n_embd": 64}, {"vocab_size": 6000}, {"model_type": "qwen2"}):
        (reason,) = departures(made_up(models=local | {"/m/jais": jais | change}, **named))
        assert reason.kind == "model" and "/m/jais" in reason.here
    swapped = {"checkpoints": ["/m/mega", "/m/gpt"], "generator": "/m/jais"}
    assert len(departures(made_up(models=local, **swapped))) == 2


def test_a_published_name_does_not_make_a_small_model_large(made_up):
    toy = config_of("jais", 64, 2, 6000)
    assert departures(made_up(models={PAPER["generator"]: toy}))
    small = {"arabiangpt-finetuned-s0": config_of("gpt2", 64, 2, 6000)}
    (reason,) = departures(made_up(trained=small))
    assert reason.key == "checkpoints" and "2 × 64" in reason.here


def test_a_repository_may_move(made_up):
    assert departures(made_up(generator="inception42/jais-13b-chat")) == []
    assert departures(made_up(generator="inception42/jais-family-590m-chat"))


def test_what_came_out_smaller_is_a_reason(made_up):
    values = {"n_conversations": 159, "n_topics": 3, "n_countries": 151}
    reasons = departures(made_up(results={"tab_dataset": values}))
    assert {d.key for d in reasons} == {"topics", "n_scenarios"}


def test_shapes_are_recorded_of_what_lies_here(tmp_path):
    save_text(tmp_path / "m/config.json", json.dumps(config_of("gpt2", 64, 2, 6000)))
    save_text(tmp_path / "bad/config.json", "{")
    save_text(tmp_path / "text/config.json", json.dumps({"text_config": {"hidden_size": 8}}))
    names = [str(tmp_path / n) for n in ("m", "bad", "text", "none")]
    config = {"generator": "embedded-grammar", "checkpoints": names, "baselines": ["a/b/c"]}
    recorded = record_shapes(config)
    assert list(recorded) == names[:1] and Shape.of(recorded[names[0]]).width == 64


def test_the_ledger_of_a_run_at_full_size(made_up):
    results = {
        "tab_dataset": {
            "n_conversations": 41_903,
            "n_topics": 93,
            "n_countries": 151,
            "generator": "Jais-13b-chat",
        },
        "tab_models": {
            "students": "ArabianGPT-08B-V2, AraGPT2-mega",
            "perplexity_within": near(9.5, 0.4) | {"n_seeds": 1},
        },
        "tab_raven": {"best_raven": near(0.6, 0.02), "raven_order": ALL_AHEAD},
        "tab_agreement": {
            "kappa_range": [near(0.25, 0.1), near(0.5, 0.1)],
            "rho_range": [near(0.45, 0.1), near(0.7, 0.3)],
            "quality_range": None,
        },
    }
    recorded = {name: config_of(*shape) for name, shape in SHAPES.items()}
    run = made_up(models=recorded, results=results)
    ledger = {c.id: c for c in claims_ledger(run)}
    words = {name: c.verdict for name, c in ledger.items()}
    assert words == dict.fromkeys(("C1", "C2", "C3", "C4", "C5"), "set by the profile") | {
        "C6": "another definition",
        "C7": "another definition",
        "C8": "reproduced",
        "C9": "not reproduced",
        "C10": "inconclusive",
        "C11": "not run",
    }
    assert "of one fine-tuning" in ledger["C8"].why and "n_scenarios = 43316" in ledger["C1"].why
    toy = claims_ledger(made_up(models=recorded, results=results, n_test_conversations=12))
    assert {c.verdict for c in toy} == {"not comparable at this scale", "not run"}
    assert all("n_test_conversations" in c.why for c in toy if c.verdict != "not run")


# What claims are held against


def test_the_ends_of_a_range_have_intervals():
    rows = [(0.2, 0.1, 0.5), (0.3, 0.25, 0.35), (0.9, 0.8, 0.95), (math.nan,) * 3]
    table = pd.DataFrame(rows, columns=["k", "k_low", "k_high"])
    least, most = range_over(table, "k")
    assert least == {"value": 0.2, "low": 0.1, "high": 0.35}
    assert most == {"value": 0.9, "low": 0.8, "high": 0.95}
    bare = range_over(table.assign(k_low=[math.nan, 0.25, 0.8, math.nan]), "k")
    assert not any(Estimate.parse(e).has_interval for e in bare)


def test_quality_is_of_the_model_and_the_criterion_alone():
    key = pd.DataFrame(
        [(f"i{n}", f"c{n}", 1, ("arabiangpt-finetuned", "b")[n % 2], 0) for n in range(40)],
        columns=["item_id", "conversation_id", "turn", "model", "seed"],
    )
    rows = [
        (f"i{n}", r, c, {"overall": 4 + n // 2 % 2, "fluency": 1}[c] if n % 2 == 0 else 2)
        for n in range(40)
        for r in ("x", "y")
        for c in ("overall", "fluency")
    ]
    ratings = pd.DataFrame(rows, columns=["item_id", "rater", "criterion", "value"])
    ratings.loc[0, "value"] = math.nan
    found = rated_estimate(ratings, key, "arabiangpt-finetuned")
    assert math.isclose(found["value"], 4.5 + 0.5 / 39) and found["low"] < 4.5 < found["high"] <= 5
    severe = ratings.assign(value=ratings.value - ratings.rater.eq("y"))
    apart = rated_estimate(severe, key, "arabiangpt-finetuned")
    assert apart["high"] - apart["low"] > 2 > found["high"] - found["low"]
    assert rated_estimate(ratings, key, "nobody") is None


def test_holm_is_over_the_planned_comparisons_alone():
    rows = [("m", "a", 0.1, 0.02), ("b", "m", -0.2, 0.03), ("x", "y", 1, 1e-9), ("m", "z", 1, 1e-9)]
    pairs = pd.DataFrame(rows, columns=["a", "b", "difference", "p"])
    order = planned_order(pairs, "m", ["a", "b", "none"])
    assert [(c["rival"], c["difference"]) for c in order["planned"]] == [("a", 0.1), ("b", 0.2)]
    assert [round(c["p_holm"], 6) for c in order["planned"]] == [0.04, 0.04]
    assert order["missing"] == ["none"]
    why = judge(CLAIMS["C7"], order).why
    assert "ahead of a (p 0.04), b (p 0.04)" in why and "not compared with none" in why
    unsure = planned_order(replace_p(pairs, 0.3), "m", ["a", "b"])
    assert "not told apart from a" in judge(CLAIMS["C7"], unsure).why


def replace_p(pairs, p):
    return pairs.assign(p=p)


def test_a_claim_without_a_margin_is_never_judged_by_its_interval():
    claim = replace(CLAIMS["C8"], widest=math.nan, margin=math.nan)
    assert judge(claim, near(9.4, 0.1)).verdict == "inconclusive"
