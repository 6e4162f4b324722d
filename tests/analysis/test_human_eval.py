"Tables of a rating study: what they must find in data made to hold it, and damage"

import math
import warnings

import numpy as np, pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.core.records import Rating, UserError
from arabic_dialog.analysis.human_eval import (
    agreement_table,
    disagreements,
    metric_correlation,
    pair_table,
    quality_comparisons,
    quality_table,
    RatedStudy,
    rating_tables,
    readable,
    with_origins,
)
from arabic_dialog.rating.simulate import RaterModel, simulate_ratings
from arabic_dialog.rating.raters import drift_table, repeat_table, severity_table
from arabic_dialog.rating.design import Answer, Origin, RatedItem, load_criteria
from arabic_dialog.core.stats import DegenerateWarning


def make(gap, n=40, raters=("a", "b"), seed=0, target=0.6):
    "A study of two models, `gap` apart in latent quality, on `n` turns of n/2 conversations"
    rng = np.random.default_rng(seed)
    key = [
        Origin(f"i{2 * t + m}", f"c{t // 2}", t % 2, "xy"[m], 0) for t in range(n) for m in (0, 1)
    ]
    quality = {
        o.item_id: float(np.clip(0.5 + gap * (o.model == "x") + 0.15 * rng.normal(), 0, 1))
        for o in key
    }
    return (
        simulate_ratings(
            [RatedItem(o.item_id, (), "") for o in key],
            quality,
            load_criteria(),
            raters,
            RaterModel(target),
            seed,
        )[0],
        key,
        quality,
    )


def test_a_gap_is_found_and_no_gap_is_rarely_found():
    ratings, key, _ = make(0.3)
    found = quality_comparisons(ratings, key)
    assert (found.a == "x").all() and (found.p_holm < 0.01).all() and (found.low > 0).all()
    overall = [[r for r in make(0, seed=s)[0] if r.criterion == "overall"] for s in range(60)]
    alarms = [(quality_comparisons(r, key, n_resamples=399).p_holm < 0.05).item() for r in overall]
    assert np.mean(alarms) <= 0.15


def test_means_are_the_plain_means_and_missing_answers_are_left_out():
    ratings, key, _ = make(0.2, raters=("a", "b", "c"))
    ratings = [
        Rating(
            r.item_id,
            r.rater,
            r.criterion,
            None if r.rater == "c" and r.item_id in ("i0", "i3") else r.value,
        )
        for r in ratings
    ]
    model = {o.item_id: o.model for o in key}
    table = quality_table(ratings, key, n_resamples=50)
    for row in table.itertuples():
        values = [
            r.value
            for r in ratings
            if r.criterion == row.criterion and model[r.item_id] == row.model and r.value
        ]
        assert (
            math.isclose(row.mean, np.mean(values))
            and row.n_ratings == len(values) == 119
            and row.mean_low <= row.mean <= row.mean_high
        )
    assert agreement_table(ratings, n_resamples=20).n_raters.eq(3).all()


def test_the_asked_agreement_comes_back_for_many_raters():
    table = agreement_table(make(0.3, n=150, raters="abcd", target=0.5)[0], n_resamples=200)
    assert ((table.kappa_quadratic - 0.5).abs() < 0.08).all()


def test_the_right_sign_and_the_right_reply():
    ratings, key, quality = make(0.3)
    rows = [
        dict(
            conversation_id=o.conversation_id, turn=o.turn, model=o.model, seed=s, metric=m, value=v
        )
        for o in key
        for s in (0, 1)
        for m, v in (
            ("raven", quality[o.item_id] if s == 0 else 0.5),
            ("nll", 100 * (1 - quality[o.item_id])),
            ("n_bytes", 50),
        )
    ]
    found = metric_correlation(with_origins(ratings, key), rows, criteria=["overall", "fluency"])
    found = found[found.level == "replies"].set_index(["criterion", "metric"])
    assert found.loc[("overall", "raven"), "rho"] > 0.4
    assert math.isclose(
        found.loc[("overall", "raven"), "rho"], -found.loc[("overall", "bits_per_byte"), "rho"]
    )
    assert (found.n == len(key)).all()
    as_text = [{k: str(v) for k, v in r.items()} for r in rows]  # as csv.DictReader gives them
    assert metric_correlation(with_origins(ratings, key), as_text).equals(
        metric_correlation(with_origins(ratings, key), rows)
    )


def test_one_turn_one_model_one_rater():
    ratings, key, _ = make(0.3, n=2)
    with pytest.raises(UserError, match="one model only"):
        quality_comparisons([r for r in ratings if r.item_id in ("i0", "i2")], key)
    with pytest.raises(UserError, match="takes two"):
        agreement_table([r for r in ratings if r.rater == "a"])
    with pytest.raises(UserError, match="not in the key"):
        quality_table(ratings, key[:1])
    one = quality_comparisons([r for r in ratings if r.item_id in ("i0", "i1")], key)
    assert one.p.isna().all() and one.p_holm.isna().all()


def test_the_paradox_is_remarked_on_where_it_is_and_only_there():
    assert (agreement_table(make(0.3)[0], n_resamples=10).note == "").all()
    rng = np.random.default_rng(
        0
    )  # both say 4 or 5 by chance: always within one point, and no agreement beyond it
    row = agreement_table(
        [Rating(f"i{n}", r, "overall", int(rng.integers(4, 6))) for n in range(200) for r in "ab"],
        n_resamples=10,
    ).iloc[0]
    assert row.within_one == 1 and "within one point" in row.note and "AC2" in row.note


def test_nothing_to_say_about_raters_who_never_differ():
    assert disagreements([Rating(f"i{n}", r, "overall", 5) for n in range(5) for r in "ab"]).empty


def test_the_largest_disagreements_come_first_and_replies_are_never_formulas():
    said = {"i0": (1, 5, 5), "i1": (1, 1, 5), "i2": (1, 3, 5), "i3": (4, 4, 4), "i4": (3, 4, 4)}
    found = disagreements(
        [
            Rating(i, r, "overall", v)
            for i, vs in said.items()
            for r, v in zip("abc", vs, strict=True)
        ],
        None,
        [RatedItem(i, (), "=HYPERLINK(1)") for i in said],
    )
    assert (
        found.item_id.tolist() == ["i0", "i1", "i2", "i4"]
        and found["median"].tolist() == [5, 1, 3, 4]
        and (found.reply == "'=HYPERLINK(1)").all()
    )


def test_what_a_metric_knows_of_the_model_only_is_seen_at_the_level_of_models():
    rng = np.random.default_rng(0)
    key = [Origin(f"i{n}", f"c{n // 8}", 0, "wxyz"[n % 4], 0) for n in range(200)]
    worth = {"w": 0.8, "x": 0.6, "y": 0.5, "z": 0.3}
    quality = {o.item_id: float(np.clip(worth[o.model] + 0.1 * rng.normal(), 0, 1)) for o in key}
    ratings = simulate_ratings(
        [RatedItem(o.item_id, (), "") for o in key],
        quality,
        load_criteria(),
        ["a", "b", "c"],
        RaterModel(0.7),
    )[0]

    def rows(value):
        return [
            dict(
                conversation_id=o.conversation_id,
                turn=0,
                model=o.model,
                seed=0,
                metric="raven",
                value=value(o),
            )
            for o in key
        ]

    key = [Origin(o.item_id, o.item_id, 0, o.model, 0) for o in key]  # each its own conversation
    model_only, reply_too = (
        metric_correlation(with_origins(ratings, key), rows(v)).set_index("level")
        for v in (lambda o: worth[o.model] + 0.001 * rng.normal(), lambda o: quality[o.item_id])
    )
    assert (
        model_only.rho["replies"] > 0.5
        and model_only.rho["models"] == 1
        and abs(model_only.rho["within models"]) < 0.25
    )
    assert (
        reply_too.rho_low["within models"] > 0.1 and 0.4 < reply_too.between_raters["replies"] < 1
    )


def test_every_table_says_that_its_raters_are_simulated():
    ratings, key, quality = make(0.3)
    scores = [
        dict(
            conversation_id=o.conversation_id,
            turn=o.turn,
            model=o.model,
            seed=0,
            metric="raven",
            value=quality[o.item_id],
        )
        for o in key
    ]
    answers = [Answer(**vars(r), position=n) for n, r in enumerate(ratings)]
    for simulated, word in ((True, "simulated raters"), (False, "people")):
        tables = rating_tables(RatedStudy(ratings, key, simulated, scores, answers), n_resamples=20)
        assert {*tables} == {
            "agreement",
            "pairs",
            "severity",
            "drift",
            "quality",
            "comparisons",
            "disagreements",
            "correlation",
        }
        for table in tables.values():
            assert table.columns[0] == "raters" and (table.raters == word).all()
    assert len(pair_table(ratings, 10)) == len({r.criterion for r in ratings})
    assert "[" in readable(tables["pairs"]).kappa.iloc[0]


def test_a_rater_without_answers_and_an_item_without_answers_change_nothing():
    ratings, _, _ = make(0.3, n=20)
    idle = [Rating(r.item_id, "idle", r.criterion, None) for r in ratings if r.rater == "a"] + [
        Rating("nobody", r, "overall", None) for r in "ab"
    ]
    a, b = agreement_table(ratings, n_resamples=20), agreement_table(ratings + idle, n_resamples=20)
    assert a.equals(b[a.columns]) and b.n_raters.eq(2).all()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda k: st.lists(
            st.lists(st.sampled_from([1, 2, 5, None]), min_size=k, max_size=k),
            min_size=1,
            max_size=8,
        )
    ),
    st.integers(1, 3),
)
def test_any_small_study_gives_tables_or_says_why_not(rows, n_models):
    ratings = [
        Rating(f"i{n}", "abc"[r], "overall", v)
        for n, vs in enumerate(rows)
        for r, v in enumerate(vs)
    ]
    key = [
        Origin(f"i{n}", f"c{n // n_models}", 0, "xyz"[n % n_models], 0) for n in range(len(rows))
    ]
    scores = [
        dict(
            conversation_id=o.conversation_id,
            turn=0,
            model=o.model,
            seed=0,
            metric="raven",
            value=0.1 * n,
        )
        for n, o in enumerate(key)
    ]
    answers = [
        dict(
            rater=r.rater,
            item_id=r.item_id,
            criterion=r.criterion,
            value=r.value,
            position=n,
            kind=k,
        )
        for n, r in enumerate(ratings)
        for k in ("item", "repeat")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for make in (
            lambda: agreement_table(ratings, n_resamples=10),
            lambda: pair_table(ratings, 10),
            lambda: severity_table(ratings, 10),
            lambda: drift_table(answers, 10),
            lambda: repeat_table(answers, 10),
            lambda: quality_table(ratings, key, 10),
            lambda: quality_comparisons(ratings, key, 19),
            lambda: disagreements(ratings),
            lambda: metric_correlation(with_origins(ratings, key), scores, n_resamples=10),
        ):
            warnings.simplefilter("ignore", DegenerateWarning)
            try:
                table = make()
            except UserError as e:
                assert str(e)
            else:
                assert (
                    table is not None
                    and not np.isinf(table.select_dtypes("number").to_numpy()).any()
                )
