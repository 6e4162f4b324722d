"Statistics against SciPy and statsmodels on many random inputs, and on input at the edge"

import math
import warnings

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given, settings, strategies as st
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from arabic_dialog.core.stats import (
    DegenerateWarning,
    auc,
    bootstrap_sums,
    cliffs_delta,
    cluster_bootstrap,
    cluster_ratio,
    cohen_dz,
    compare_paired,
    crossed_interval,
    holm,
    kendall,
    paired_permutation_test,
    partial_spearman,
    resample_counts,
    spearman,
    spearman_interval,
    sum_by,
    williams,
)

# their sums are exact: a tie is a tie in any order of summation
finite = st.integers(-(2**13), 2**13).map(lambda n: n / 8)
few = settings(max_examples=40, deadline=None)


@few
@given(
    st.lists(finite, min_size=3, max_size=40, unique=True),
    st.integers(0, 3),
    st.sampled_from(["percentile", "bca"]),
)
def test_interval_of_mean_is_scipys(values, seed, method):
    ours = cluster_bootstrap(values, n_resamples=300, seed=seed, method=method)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=300, method=method, rng=np.random.default_rng(seed)
    ).confidence_interval
    assert np.allclose([ours.low, ours.high], theirs, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_counts_are_the_same_in_any_memory():
    whole, parts = (np.concatenate([*resample_counts(7, 20, seed=3, cells=c)]) for c in (10**6, 30))
    assert (whole == parts).all() and (whole.sum(1) == 7).all()


def test_cluster_ratio_is_a_loop_over_resampled_clusters():
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 9, 60)
    top, bottom = rng.gamma(2, 3, 60), rng.integers(1, 9, 60)
    names = np.unique(clusters)
    draws = []
    for counts in np.concatenate([*resample_counts(len(names), 400, seed=5)]):
        drawn = np.concatenate(
            [
                np.flatnonzero(clusters == n)
                for n, c in zip(names, counts, strict=True)
                for _ in range(int(c))
            ]
        )
        draws.append(top[drawn].sum() / bottom[drawn].sum())
    found = cluster_ratio(top, bottom, clusters, n_resamples=400, seed=5)
    assert np.allclose([found.low, found.high], np.quantile(draws, [0.025, 0.975]), rtol=1e-12)
    assert math.isclose(found.value, top.sum() / bottom.sum())


def test_cluster_intervals_cover_where_intervals_by_turn_do_not():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), 5)
    hit = {"cluster": 0, "turn": 0}
    for s in range(300):
        x = rng.normal(size=60)[clusters] + 0.5 * rng.normal(size=300)
        for name, unit in (("cluster", clusters), ("turn", None)):
            i = cluster_bootstrap(x, unit, n_resamples=300, seed=s)
            hit[name] += i.low <= 0 <= i.high
    assert 0.90 <= hit["cluster"] / 300 <= 0.98 and hit["turn"] / 300 < 0.75


@few
@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=9))
def test_enumerated_permutation_test_is_scipys(pairs):
    a, b = np.array(pairs).T
    theirs = scipy.stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True
    )
    assert math.isclose(paired_permutation_test(a, b), theirs.pvalue, rel_tol=1e-9)


def test_drawn_permutation_test_is_close_to_the_exact_one():
    rng = np.random.default_rng(2)
    a = rng.normal(0.4, 1, 13)
    b = np.zeros(13)
    exact, drawn = (
        paired_permutation_test(a, b, n_resamples=2**13),
        paired_permutation_test(a, b, n_resamples=2**13 - 1),
    )
    assert exact != drawn and abs(exact - drawn) < 4 * math.sqrt(exact * (1 - exact) / 2**13)


def test_permutation_test_keeps_its_level_with_clusters_and_never_says_zero():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), 4)
    alarms = []
    for s in range(300):
        x = rng.normal(size=30)[clusters] + 0.3 * rng.normal(size=120)
        alarms.append(
            [paired_permutation_test(x, 0 * x, c, 499, seed=s) <= 0.05 for c in (clusters, None)]
        )
    by_cluster, by_turn = np.mean(alarms, axis=0)
    assert by_cluster <= 0.085 and by_turn > 0.2
    assert paired_permutation_test(np.arange(1.0, 41), np.zeros(40), n_resamples=99) == 0.01


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels(p):
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])


@few
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
def test_rank_measures_are_scipys_with_ties(pairs):
    a, b = np.array(pairs, dtype=float).T
    u = scipy.stats.mannwhitneyu(a, b).statistic
    assert math.isclose(cliffs_delta(a, b), 2 * u / (a.size * b.size) - 1, abs_tol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isclose(spearman(a, b), scipy.stats.spearmanr(a, b).statistic, equal_nan=True)
        assert np.isclose(kendall(a, b), scipy.stats.kendalltau(a, b).statistic, equal_nan=True)


def test_spearman_interval_resamples_whole_clusters():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), 3)
    a = rng.integers(1, 6, 36).astype(float)
    b = a + rng.normal(size=36)
    draws = []
    for counts in np.concatenate([*resample_counts(12, 200, seed=4)]).astype(int):
        w = counts[clusters]
        draws.append(scipy.stats.spearmanr(np.repeat(a, w), np.repeat(b, w)).statistic)
    # clusters are in the order of their names, which sort here as the numbers do
    found = spearman_interval(a, b, [f"{c:02}" for c in clusters], n_resamples=200, seed=4)
    assert np.allclose([found.low, found.high], np.quantile(draws, [0.025, 0.975]))


def test_missing_pairs_are_left_out():
    nan = math.nan
    a, b = [1, 2, nan, 4, 5, 3], [2, 1, 3, nan, 5, 4]
    assert spearman(a, b) == spearman([1, 2, 5, 3], [2, 1, 5, 4])
    assert spearman_interval(a, b, n_resamples=50).value == spearman(a, b)


@pytest.mark.parametrize(
    "call",
    [
        lambda: cluster_bootstrap([7.0]),
        lambda: cluster_bootstrap([1, 2, 3], ["a"] * 3),
        lambda: cluster_ratio([1, 2], [0, 0]),
        lambda: cohen_dz([1, 2], [1, 2]),
        lambda: cohen_dz([1.1, 2.1, 3.1], [1, 2, 3]),
        lambda: spearman([1, 1, 1], [1, 2, 3]),
        lambda: kendall([1], [1]),
        lambda: spearman([], []),
        lambda: spearman_interval([math.nan] * 3, [1, 2, 3]),
    ],
)
def test_undefined_is_nan_with_a_warning(call):
    with pytest.warns(DegenerateWarning):
        found = call()
    assert math.isnan(getattr(found, "high", found))


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: cluster_bootstrap([]), "at least one number"),
        (lambda: cluster_bootstrap([1, math.inf]), "not finite"),
        (lambda: cluster_bootstrap([1, 2], method="basic"), "percentile, bca"),
        (lambda: cluster_bootstrap([1, 2], level=95), "between 0 and 1"),
        (lambda: cluster_bootstrap([1, 2], n_resamples=0), "n_resamples"),
        (lambda: cluster_bootstrap([1, 2], ["a"]), "1 clusters"),
        (lambda: paired_permutation_test([1, 2], [1]), "as many"),
        (lambda: holm([1.2]), "0 and 1"),
        (lambda: spearman([1, 2], [1]), "same length"),
        (lambda: spearman_interval([1, 2], [1, 2], ["a"]), "1 clusters"),
    ],
)
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_constant_values_have_an_interval_of_no_width():
    for method in ("percentile", "bca"):
        assert vars(cluster_bootstrap([3.0, 3.0, 3.0], method=method)) == dict(
            value=3, low=3, high=3, level=0.95
        )
    with pytest.warns(DegenerateWarning):
        c = compare_paired([1, 2, 3], [1, 2, 3])
    assert c.p == 1 and c.difference.value == 0 and math.isnan(c.effect)


def test_several_statistics_share_their_resamples():
    x = np.random.default_rng(0).normal(size=(30, 2))
    both = bootstrap_sums(x, lambda s: s / 30, 200, method="bca")
    alone = [bootstrap_sums(x[:, [i]], lambda s: s[..., 0] / 30, 200, method="bca") for i in (0, 1)]
    assert np.allclose([vars(i)["low"] for i in both], [vars(i)["low"] for i in alone])


def means_and_differences(s):
    "Of three models: their means, and the difference of the first two"
    m = s[..., :3] / s[..., 3:]
    return np.concatenate([m, m[..., :1] - m[..., 1:2]], -1)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_table_has_the_intervals_of_its_columns_and_differences(method):
    rng = np.random.default_rng(3)
    table = rng.normal(size=(60, 3))
    clusters = np.repeat(np.arange(20), 3)
    rows = sum_by(clusters, *table.T, np.ones(60))
    found = bootstrap_sums(rows, means_and_differences, 300, method=method)
    columns = [*table.T, table[:, 0] - table[:, 1]]
    for interval, column in zip(found, columns, strict=True):
        alone = cluster_bootstrap(column, clusters, 300, method=method)
        assert np.allclose([*vars(interval).values()], [*vars(alone).values()])
    alone = cluster_bootstrap(table[:, 0], None, 300, method=method)
    theirs = scipy.stats.bootstrap(
        (table[:, 0],), np.mean, n_resamples=300, method=method, rng=np.random.default_rng(0)
    ).confidence_interval
    assert np.allclose([alone.low, alone.high], theirs)


def mean(s):
    return s[..., 0] / s[..., 1]


def difference(a, b):
    return mean(a) - mean(b)


def studied(rng, seeds, by_seed, n=40):
    "Scores of fine-tunings on `n` conversations, zero in expectation, as sums and counts"
    x = (
        by_seed * rng.normal(size=(seeds, 1))
        + 0.5 * rng.normal(size=n)
        + 0.5 * rng.normal(size=(seeds, n))
    )
    return np.stack([x, np.ones_like(x)], -1)


@pytest.mark.parametrize("seeds, by_seed", [(2, 1.0), (3, 1.0), (3, 0.2), (5, 0.5)])
def test_intervals_over_seeds_cover_the_truth_and_their_p_keeps_its_level(seeds, by_seed):
    rng, inside, alarms = np.random.default_rng(0), 0, 0
    for k in range(300):
        i = crossed_interval([studied(rng, seeds, by_seed)], mean, 200, seed=k)
        inside += i.low <= 0 <= i.high
        alarms += i.p < 0.05
    assert inside / 300 > 0.9 and alarms / 300 < 0.09


def test_a_difference_of_two_sets_of_fine_tunings():
    rng, inside = np.random.default_rng(1), 0
    for k in range(300):
        a, b = studied(rng, 3, 0.5), studied(rng, 3, 0.5)
        i = crossed_interval([a, b], difference, 200, seed=k)
        inside += i.low <= 0 <= i.high
    assert inside / 300 > 0.92
    big = a.copy()
    big[..., 0] += 9
    found = crossed_interval([big, b], difference, 999)
    assert (
        found.low > 0
        and found.p < 0.05
        and found.value == pytest.approx(mean(big.sum((0, 1))) - mean(b.sum((0, 1))))
    )


def test_one_seed_gives_the_cluster_interval_and_says_that_it_knows_no_seeds():
    rows = studied(np.random.default_rng(2), 1, 0.0)
    found, plain = crossed_interval([rows], mean, 400), cluster_bootstrap(rows[0, :, 0], None, 400)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high)) and math.isnan(
        found.run_share
    )


def test_the_share_of_the_seeds_is_what_was_put_in():
    rng = np.random.default_rng(3)
    shares = {
        s: np.mean(
            [
                crossed_interval([studied(rng, 3, s)], mean, 200, seed=k).run_share
                for k in range(100)
            ]
        )
        for s in (0.0, 2.0)
    }
    assert shares[0.0] < 0.3 and shares[2.0] > 0.9


@few
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auc_is_sklearns(a, b):
    assert math.isclose(auc(a, b), roc_auc_score([1] * len(a) + [0] * len(b), a + b))


@few
@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=8, max_size=40))
@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.SingularMatrixWarning")
def test_partial_spearman_is_the_correlation_of_what_is_left_of_the_ranks(rows):
    a, b, *given_ = np.array(rows, dtype=float).T
    ranks = [scipy.stats.rankdata(x) for x in (a, b, *given_)]
    left = [
        sm.OLS(r, sm.add_constant(np.stack(ranks[2:], 1), has_constant="add")).fit().resid
        for r in ranks[:2]
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = partial_spearman(a, b, *given_)
    if not math.isnan(ours):
        assert ours == pytest.approx(scipy.stats.pearsonr(*left).statistic, abs=1e-6)


def test_williams_keeps_its_level_and_finds_a_difference():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(600):
        y, shared = rng.normal(size=(2, 80))
        a, b = (y + shared + rng.normal(size=80) for _ in range(2))
        r = np.corrcoef([y, a, b])
        p.append(williams(r[0, 1], r[0, 2], r[1, 2], 80)[1])
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.075
    assert (
        williams(0.6, 0.2, 0.3, 80)[1] < 0.001
        and williams(0.3, 0.3, 0.5, 50) == (0, 1)
        and williams(0.2, 0.45, 0.8, 100)[0] == pytest.approx(-4.56, abs=0.005)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: crossed_interval([np.ones((3, 1, 2))], mean),
        lambda: crossed_interval([np.zeros((3, 4, 2))], mean),
        lambda: partial_spearman([1, 2, 3], [1, 3, 2], [2, 2, 1]),
        lambda: partial_spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], [2, 1, 3, 4, 5]),
        lambda: partial_spearman([1, 2, 3, 4, 5], [1, 3, 2, 5, 4], [1, 2, 3, 4, 5]),
        lambda: williams(math.nan, 0.2, 0.3, 20)[0],
        lambda: williams(1.2, 0.4, 0.3, 20)[0],
    ],
)
def test_the_undefined_is_nan_with_a_warning_here_too(call):
    with np.errstate(all="ignore"), pytest.warns(DegenerateWarning):
        found = call()
    assert math.isnan(getattr(found, "high", found))


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda: crossed_interval([np.ones((2, 3, 2)), np.ones((2, 4, 2))], difference),
            "the same units",
        ),
        (lambda: sum_by(["a"], [1, 2]), "1 clusters"),
        (lambda: sum_by(None, [1, math.nan]), "not finite"),
        (lambda: sum_by(None, [1, 2], [1]), "as many"),
        (lambda: williams(0.1, 0.2, 0.3, 3), "at least 4"),
        (lambda: partial_spearman([1, 2], [1, 2], [1]), "same length"),
        (lambda: auc([], [1]), "at least one"),
    ],
)
def test_errors_of_tables_and_correlations_say_what_is_wrong(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_memory_does_not_grow_with_the_number_of_resamples():
    import tracemalloc

    table, peaks = np.random.default_rng(0).random((2000, 4)), []
    for n in (500, 4000):
        tracemalloc.start()
        bootstrap_sums(table, lambda s: s / 2000, n)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # the draws themselves, a few times; the counts of all resamples would be 64 MB
    assert peaks[1] < peaks[0] + 4000 * 10 * 8 * 6
