"""The tests of differences against slow computations by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from arabic_dialog.analysis.compare import compare, summarise
from arabic_dialog.core.records import UserError
from arabic_dialog.metrics.scores import SCORE_COLUMNS


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    rows = [
        (f"c{c}", t, m, s, metric, v)
        for c in range(40)
        for t in (1, 3)
        for m, seeds, better in (("a", 3, 1.0), ("b", 3, 0.6), ("one", 1, 0.6))
        for s in range(seeds)
        for metric, v in (
            ("raven", better * rng.beta(5, 2)),
            ("nll", rng.gamma(5, 4 / better) + c),
            ("n_tokens", 5 + c % 7),
            ("n_bytes", 60 + c),
        )
    ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def test_the_interval_over_seeds_and_conversations_is_the_one_by_hand(scores):
    """Loops over resamples: conversations with replacement, and t for the mean of three seeds."""
    ours = summarise(scores, 4000).set_index(["model", "metric"]).loc[("a", "perplexity")]
    a = scores[scores.model == "a"]
    top, bottom = (
        a[a.metric == m]
        .pivot_table(index="seed", columns="conversation_id", values="value", aggfunc="sum")
        .to_numpy()
        for m in ("nll", "n_tokens")
    )
    spread = (top.sum(1) / bottom.sum(1)).std(ddof=1) / 3**0.5
    rng, draws = np.random.default_rng(1), []
    for _ in range(4000):
        c = rng.integers(40, size=40)
        draws.append(top[:, c].sum() / bottom[:, c].sum() + spread * rng.standard_t(2))
    assert ours.value == pytest.approx(math.exp(top.sum() / bottom.sum()))
    width = ours.high - ours.low
    assert np.allclose(
        [ours.low, ours.high], np.exp(np.quantile(draws, [0.025, 0.975])), atol=0.08 * width
    )


def test_seeds_that_differ_widen_the_interval_and_weaken_the_test(scores):
    other = scores.copy()
    other.loc[(other.metric == "raven") & (other.model == "a"), "value"] += (other.seed - 1) * 0.3
    other["value"] = other.value.where(other.metric != "raven", other.value.clip(0, 1))
    calm, wild = (
        summarise(s, 1000).set_index(["model", "metric"]).loc[("a", "raven")]
        for s in (scores, other)
    )
    assert (
        wild.seed_share > 0.9 > calm.seed_share
        and wild.high - wild.low > 5 * (calm.high - calm.low)
        and 0 <= wild.low
        and wild.high <= 1
    )
    calm, wild = (compare(s, ["raven"], [("a", "b")], 999).iloc[0] for s in (scores, other))
    assert (
        calm.p < 0.05
        and calm.p_seeds < 0.05
        and wild.p < 0.05 < wild.p_seeds
        and wild.low < 0 < calm.low
    )


def test_what_holds_for_other_fine_tunings_holds_for_these(scores):
    few = scores[scores.conversation_id.isin([f"c{k}" for k in range(6)])]
    found = compare(few, ["raven", "bits_per_byte"], n_resamples=999).dropna()
    assert (
        len(found) == 6
        and (found.p_seeds >= found.p).all()
        and (found.p_seeds_holm >= found.p_seeds).all()
    )


def test_one_seed_each_has_no_say_on_other_fine_tunings(scores):
    found = compare(scores[scores.seed == 0], ["raven"], [("a", "b")], 999).iloc[0]
    assert (
        math.isnan(found.p_seeds)
        and math.isnan(found.p_seeds_holm)
        and found.low <= found.difference <= found.high
        and 0.5 < found.wins < 1
    )


def test_intervals_do_not_depend_on_the_order_of_rows(scores):
    shuffled = scores.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(summarise(scores, 300), summarise(shuffled, 300))
    pd.testing.assert_frame_equal(
        compare(scores, n_resamples=199), compare(shuffled, n_resamples=199)
    )


def test_chance_alone_is_rarely_significant():
    rng, hits = np.random.default_rng(0), 0
    for k in range(100):
        cluster = rng.normal(size=30).repeat(2)
        rows = [
            (f"c{i // 2}", i % 2, m, 0, "raven", v)
            for m in "ab"
            for i, v in enumerate(cluster + rng.normal(size=60) + rng.normal(size=30).repeat(2))
        ]
        hits += (
            compare(pd.DataFrame(rows, columns=SCORE_COLUMNS), n_resamples=199, seed=k).p[0] < 0.05
        )
    assert hits <= 12


def test_models_are_compared_on_common_turns_only(scores):
    fewer = scores[~((scores.model == "b") & (scores.conversation_id == "c0"))]
    assert set(compare(fewer, n_resamples=99).n) == {78, 80}
    with pytest.raises(UserError, match="no turn in common"):
        compare(
            scores[
                (scores.model == "a") & (scores.turn == 1)
                | (scores.model == "b") & (scores.turn == 3)
            ],
            n_resamples=99,
        )


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda s: s[s.model == "none"], "no scores"),
        (lambda s: s.assign(value=float("nan")), "missing values"),
    ],
)
def test_scores_that_cannot_be_summarised(scores, change, said):
    with pytest.raises(UserError, match=said):
        summarise(change(scores))


def test_one_conversation_has_values_and_no_intervals(scores):
    one = scores[scores.conversation_id == "c0"]
    table, tests = summarise(one, 99), compare(one, n_resamples=99)
    assert (
        table.value.notna().all()
        and table.low.isna().all()
        and tests.p.eq(1).all()
        and tests.low.isna().all()
    )


def test_unknown_models_are_named(scores):
    with pytest.raises(UserError, match="'z' has no raven"):
        compare(scores, pairs=[("a", "z")])


@pytest.mark.parametrize("drop", SCORE_COLUMNS)
def test_a_missing_column_is_named(scores, drop):
    for call in (summarise, compare):
        with pytest.raises(UserError, match=f"no column {drop}"):
            call(scores.drop(columns=drop))
