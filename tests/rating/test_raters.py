"""Raters one by one: severity, drift, repeats and checks, in data made to hold them

and the model of simulated raters
"""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings, strategies as st

from arabic_dialog.rating.agreement import rater_agreement
from arabic_dialog.analysis.human_eval import agreement_table, quality_table
from arabic_dialog.rating.design import Answer, Origin, POINTS
from arabic_dialog.core.records import Rating, UserError
from arabic_dialog.rating.simulate import (
    RaterModel,
    answer_chances,
    expected_kappa,
    noise_for,
    rater_slots,
    simulate_answers,
)
from arabic_dialog.rating.raters import (
    absences,
    ALL,
    answer_frame,
    check_table,
    drift_table,
    rating_frame,
    repeat_table,
    severity_table,
)


def study(severity=(0, 0, 0), drift=(0, 0, 0), n=80, noise=0.4, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    worth = rng.normal(3.2, 0.8, n)
    out = []
    for rater, bias, change in zip("abcdefgh", severity, drift, strict=False):
        for place, i in enumerate(rng.permutation(n)):
            if rng.random() < missing:
                continue
            seen = worth[i] - bias + change * (place / (n - 1) - 0.5) + noise * rng.normal()
            out.append(
                dict(
                    rater=rater,
                    position=place + 1,
                    item_id=f"i{i:03}",
                    criterion="overall",
                    value=int(np.clip(np.round(seen), 1, 5)),
                )
            )
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.sampled_from([0.0, 0.3, 0.6]))
def test_severity_is_least_squares(seed, k, missing):
    rows = study((0,) * k, (0,) * k, 15, 1.0, seed, missing)
    frame = pd.DataFrame(rows)
    if frame.groupby("item_id").rater.nunique().max() < 2 or frame.rater.nunique() < 2:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = severity_table(rows, 20).set_index("rater").severity
    assert found.isna().all() or abs(found.sum()) < 1e-9
    fit = smf.ols("value ~ C(item_id) + C(rater)", frame).fit().params
    first, *others = sorted(frame.rater.unique())
    for r in others if not found.isna().any() else ():
        assert math.isclose(found[first] - found[r], fit[f"C(rater)[T.{r}]"], abs_tol=1e-8)


def test_severity_and_drift_are_found_where_they_are_and_rarely_where_not():
    found = severity_table(study((0.6, 0, 0)), 200).set_index("rater")
    assert found.severity_low["a"] > 0 and found.p_holm["a"] < 0.01
    moved = drift_table(study(drift=(0, -1.0, 0)), 200).set_index("rater")
    assert moved.drift_high["b"] < 0 and moved.p_holm["b"] < 0.01
    alarms = [
        (t(study(seed=s), 20).p_holm < 0.05).any()
        for s in range(40)
        for t in (severity_table, drift_table)
    ]
    assert np.mean(alarms) <= 0.15


def test_drift_is_points_from_first_to_last_and_needs_an_order():
    rows = [
        dict(rater="a", position=p, item_id=f"i{p}", criterion="overall", value=v)
        for p, v in enumerate((1, 2, 3, 4, 5), 10)
    ]
    assert math.isclose(drift_table(rows, 50).drift.item(), 4)
    one = drift_table(rows[:1], 50)
    assert one.n.item() == 1 and math.isnan(one.drift.item()) and math.isnan(one.p_holm.item())
    with pytest.raises(UserError, match="no positions"):
        drift_table([Rating("i1", "a", "overall", 3)])


def test_repeats_are_compared_with_the_rating_of_the_same_rater():
    rows = [
        dict(rater=r, position=p, kind=k, item_id=f"i{i}", criterion="overall", value=v)
        for r, shift in (("a", 0), ("b", 1))
        for p, (i, k, v) in enumerate(
            [
                (i, k, 1 + i % 4 + shift * (k == "repeat"))
                for k in ("item", "repeat")
                for i in range(40)
            ]
        )
    ]
    found = repeat_table(rows, 50).set_index("rater")
    assert (
        found.exact["a"] == 1
        and found.exact["b"] == 0
        and found.exact["all raters"] == 0.5
        and found["shift"].to_dict() == {"a": 0, "b": 1, "all raters": 0.5}
    )
    assert (
        rating_frame(rows).shape[0] == 80 and severity_table(rows, 20).n.eq(40).all()
    )  # repeats are no ratings


def test_a_check_is_passed_on_every_criterion_or_failed():
    rows = [
        dict(rater=r, position=9, kind="check", item_id="k1", criterion=c, value=v, expected=2)
        for r, vs in (("a", (2, 2)), ("b", (2, 3)))
        for c, v in zip(("fluency", "overall"), vs, strict=True)
    ]
    rows += [dict(rater="c", position=1, item_id="i1", criterion="overall", value=3)]
    found = check_table(rows).set_index("rater")
    assert (
        found.passed.to_dict() == {"a": 1, "b": 0, "c": 0}
        and found.checks["c"] == 0
        and math.isnan(found.share["c"])
        and found.failed["b"] == "k1"
    )
    assert (
        found.share_low["a"] < 1
        and "1 of 1" in found.note["b"]
        and found.note["a"] == found.note["c"] == ""
    )
    with pytest.raises(UserError, match="no expected answer"):
        check_table([{k: v for k, v in rows[0].items() if k != "expected"}])


@pytest.mark.parametrize(
    "rows, says",
    [
        ([], "no ratings"),
        ([Rating("i1", "a", "overall", 6)], "rated 6 by 'a'"),
        ([Rating("i1", "a", "overall", 2)] * 2, "rated twice"),
        ([Rating("i1", "a", "overall", math.inf)], "rated inf"),
        ([{"rater": "a", "value": 2}], "no column 'item_id'"),
        ([dict(item_id="i", rater="a", criterion="c", value="good")], "should be a number"),
        ([Rating("i1", "a", "overall", 4)], "one rater"),
        ([Rating("i1", "a", "overall", 4), Rating("i2", "b", "overall", 4)], "no two raters"),
    ],
)
def test_errors_of_severity_name_the_value(rows, says):
    with pytest.raises(UserError, match=says):
        severity_table(rows, 20)


def test_ties_everywhere_have_values():
    rows = [
        dict(rater=r, position=p, item_id=f"i{p}", criterion=c, value=5)
        for r in "abc"
        for c in ("x", "y")
        for p in range(10)
    ]
    assert (severity_table(rows, 20).severity == 0).all() and (
        severity_table(rows, 20).p == 1
    ).all()
    assert (drift_table(rows, 20).drift == 0).all() and drift_table(rows, 20).p.isna().all()
    assert {*severity_table(rows, 20).criterion} == {"x", "y", ALL}
    assert {*answer_frame(rows).columns} >= {"kind", "position", "expected"}


def simulated(model, n=150, criteria=("overall",), raters=("a", "b", "c"), seed=0, repeats=0.4):
    ids = [f"i{k:03}" for k in range(n)]
    slots, checks = rater_slots(ids, raters, repeats, 4, seed)
    return simulate_answers(
        slots, {i: k / (n - 1) for k, i in enumerate(ids)}, criteria, model, seed, checks
    )


@pytest.mark.parametrize(
    "model",
    [
        RaterModel(0.3),
        RaterModel(0.6),
        RaterModel(0.8, bias=0.1),
        RaterModel(0.5, careless=0.1),
        RaterModel(0.5, thresholds=(1.2, 1.9, 2.8, 4.0)),
        RaterModel(0.6, drift=0.6),
    ],
)
def test_the_agreement_asked_for_comes_out(model):
    kappas = []
    for seed in range(4):
        rows, how = simulated(model, seed=seed)
        assert math.isclose(how["expected_kappa_quadratic"]["overall"], model.target, abs_tol=1e-3)
        kappas.append(
            rater_agreement(
                pd.DataFrame(rows)
                .query("kind == 'item'")
                .pivot(index="rater", columns="item_id", values="value"),
                ["kappa_quadratic"],
                POINTS,
                0,
            )["kappa_quadratic"].value
        )
    assert abs(np.mean(kappas) - model.target) < 0.05


def test_lasting_opinions_make_raters_agree_with_themselves():
    own = [
        repeat_table(simulated(RaterModel(0.5, lasting=share))[0], 20)
        .set_index("rater")
        .kappa_quadratic["all raters"]
        for share in (0, 0.5, 1)
    ]
    assert own[0] < own[1] < own[2] and own[2] > 0.97  # what is left is drift
    assert abs(own[0] - 0.5) < 0.15


def test_what_was_put_in_is_found():
    rows, how = simulated(RaterModel(0.7, bias=0.8, drift=1.5), n=200)
    found = severity_table(rows, 50).set_index("rater").severity
    assert np.corrcoef([how["biases"][r] for r in "abc"], -found[list("abc")])[0, 1] > 0.9
    change = drift_table(rows, 50).set_index("rater").drift
    assert np.corrcoef([how["drifts"][r] for r in "abc"], change[list("abc")])[0, 1] > 0.9
    assert (check_table(rows).share == 1).all()
    careless = check_table(simulated(RaterModel(0.4, careless=0.6), raters="abcdefgh")[0])
    assert careless.passed.sum() < 0.8 * careless.checks.sum()


def test_an_answer_does_not_depend_on_company_and_chances_are_those_of_the_draws():
    a, b = (
        {
            (r.rater, r.item_id): r.value
            for r in simulated(RaterModel(0.6, drift=0), n=n, repeats=0)[0]
            if r.kind == "item"
        }
        for n in (150, 150)
    )
    assert a == b
    seen = np.full((2, 4000), 3.3) + np.random.default_rng(0).normal(size=4000)
    s = noise_for(seen, RaterModel(0.55))
    p = answer_chances(seen, s)
    assert np.allclose(p.sum(-1), 1) and math.isclose(expected_kappa(p), 0.55, abs_tol=1e-5)


def test_simulated_answers_stay_what_they_are():
    "Whoever simulates again with the same seed gets the same answers, also in a later version"
    answers, how = simulated(RaterModel(0.5, careless=0.1), n=10, raters=("a", "b"), seed=3)
    assert "".join(str(a.value) for a in answers) == "142253533354241224333445542255135221"
    assert how["biases"] == {"a": -0.161, "b": 0.0421}


def test_an_answer_that_a_question_does_not_apply_is_counted_and_no_rating():
    def of(value, rater, n, absent=False):
        return Rating(f"i{n}", rater, "accuracy", value, not_applicable=absent)

    ratings = [of(1 + n % 5, r, n) for n in range(30) for r in ("a", "b")]
    ratings[4:6] = [of(None, "a", 2, True), of(None, "b", 2, True)]  # both: it does not apply
    ratings[6] = of(None, "a", 3, True)  # one of them
    ratings[8] = of(None, "a", 4)  # missing
    table = agreement_table(ratings, n_resamples=100).iloc[0]
    assert (table.n_items, table.n_shared, table.n_not_applicable) == (29, 27, 3)
    assert table.kappa == table.exact == 1  # what was not rated does not disagree
    assert "3 answers say that the question does not apply" in table.note
    assert "on 1 items others rated" in table.note
    key = [Origin(f"i{n}", f"c{n}", 1, "m", 0) for n in range(30)]
    (row,) = quality_table(ratings, key, 50).to_dict("records")
    assert (row["n_ratings"], row["n_not_applicable"]) == (56, 3)
    assert row["mean"] == np.mean([r.value for r in ratings if r.value])
    rows = [vars(r) for r in ratings]  # and the same from rows of a table
    assert len(absences(rows)) == len(absences(ratings)) == 3
    assert not len(absences([{k: v for k, v in r.items() if k != "not_applicable"} for r in rows]))


def test_simulated_raters_leave_out_what_does_not_apply_to_an_item():
    quality = {f"i{n}": n / 199 for n in range(200)}
    slots, checks = rater_slots(quality, ["a", "b"], repeats=0.2)
    model = RaterModel(optional=("accuracy",), absent=0.3, mistaken=0.0)
    answers, about = simulate_answers(slots, quality, ["accuracy", "overall"], model, 0, checks)
    absent = {(a.rater, a.item_id, a.kind) for a in answers if a.not_applicable}
    items = {item for _, item, kind in absent if kind == "item"}
    assert 40 < len(items) < 80 and about["absent"] == 0.3
    assert all(("a", i, "item") in absent and ("b", i, "item") in absent for i in items)
    for a in answers:
        lost = a.criterion == "accuracy" and a.item_id in items
        assert a.not_applicable == lost and (a.value is None) == lost
    same, _ = simulate_answers(slots, quality, ["accuracy", "overall"], RaterModel(), 0, checks)
    kept = [(a.value, b.value) for a, b in zip(answers, same, strict=True) if not a.not_applicable]
    assert all(x == y for x, y in kept)  # one choice more changes no other answer


def test_who_says_that_a_check_does_not_apply_has_not_read_it():
    said = [("a", 2, False), ("b", None, True), ("c", None, False)]
    answers = [
        Answer("check", rater, "accuracy", value, "check", 1, 2, not_applicable=absent)
        for rater, value, absent in said
    ]
    answers += [Answer("i1", rater, "accuracy", 3) for rater, *_ in said]
    table = check_table(answers).set_index("rater")
    assert table.passed.to_dict() == {"a": 1, "b": 0, "c": 0}
    assert table.checks.to_dict() == {"a": 1, "b": 1, "c": 0}  # c did not answer
