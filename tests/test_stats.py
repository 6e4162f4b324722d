"Statistics against SciPy and statsmodels on many random inputs, and on input at the edge"
import math, warnings

import numpy as np, pytest, scipy.stats
from hypothesis import given, settings, strategies as st
from statsmodels.stats.multitest import multipletests

from arabic_dialog.stats import (DegenerateWarning, bootstrap_interval, bootstrap_sums, cliffs_delta, cluster_bootstrap, cluster_ratio, cohen_dz,
                                 compare_paired, holm, kendall, paired_permutation_test, resample_counts, spearman, spearman_interval)

finite = st.integers(-2**13, 2**13).map(lambda n: n/8)  # their sums are exact: a tie is a tie in any order of summation
few = settings(max_examples=40, deadline=None)


@few
@given(st.lists(finite, min_size=3, max_size=40, unique=True), st.integers(0, 3), st.sampled_from(["percentile", "bca"]))
def test_interval_of_mean_is_scipys(values, seed, method):
    ours = bootstrap_interval(values, n_resamples=300, seed=seed, method=method)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=300, method=method, rng=np.random.default_rng(seed)).confidence_interval
    assert np.allclose([ours.low, ours.high], theirs, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_counts_are_the_same_in_any_memory():
    whole, parts = (np.concatenate([*resample_counts(7, 20, seed=3, cells=c)]) for c in (10**6, 30))
    assert (whole == parts).all() and (whole.sum(1) == 7).all()


def test_cluster_ratio_is_a_loop_over_resampled_clusters():
    rng = np.random.default_rng(0); clusters = rng.integers(0, 9, 60); top, bottom = rng.gamma(2, 3, 60), rng.integers(1, 9, 60)
    names = np.unique(clusters); draws = []
    for counts in np.concatenate([*resample_counts(len(names), 400, seed=5)]):
        drawn = np.concatenate([np.flatnonzero(clusters == n) for n, c in zip(names, counts) for _ in range(int(c))])
        draws.append(top[drawn].sum()/bottom[drawn].sum())
    found = cluster_ratio(top, bottom, clusters, n_resamples=400, seed=5)
    assert np.allclose([found.low, found.high], np.quantile(draws, [.025, .975]), rtol=1e-12)
    assert math.isclose(found.value, top.sum()/bottom.sum())


def test_cluster_intervals_cover_where_intervals_by_turn_do_not():
    rng = np.random.default_rng(0); clusters = np.repeat(np.arange(60), 5); hit = {"cluster": 0, "turn": 0}
    for s in range(300):
        x = rng.normal(size=60)[clusters] + .5*rng.normal(size=300)
        for name, unit in (("cluster", clusters), ("turn", None)):
            i = cluster_bootstrap(x, unit, n_resamples=300, seed=s); hit[name] += i.low <= 0 <= i.high
    assert .90 <= hit["cluster"]/300 <= .98 and hit["turn"]/300 < .75


@few
@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=9))
def test_enumerated_permutation_test_is_scipys(pairs):
    a, b = np.array(pairs).T
    theirs = scipy.stats.permutation_test((a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True)
    assert math.isclose(paired_permutation_test(a, b), theirs.pvalue, rel_tol=1e-9)


def test_drawn_permutation_test_is_close_to_the_exact_one():
    rng = np.random.default_rng(2); a = rng.normal(.4, 1, 13); b = np.zeros(13)
    exact, drawn = paired_permutation_test(a, b, n_resamples=2**13), paired_permutation_test(a, b, n_resamples=2**13 - 1)
    assert exact != drawn and abs(exact - drawn) < 4*math.sqrt(exact*(1 - exact)/2**13)


def test_permutation_test_keeps_its_level_with_clusters_and_never_says_zero():
    rng = np.random.default_rng(0); clusters = np.repeat(np.arange(30), 4); alarms = []
    for s in range(300):
        x = rng.normal(size=30)[clusters] + .3*rng.normal(size=120)
        alarms.append([paired_permutation_test(x, 0*x, c, 499, seed=s) <= .05 for c in (clusters, None)])
    by_cluster, by_turn = np.mean(alarms, axis=0)
    assert by_cluster <= .085 and by_turn > .2
    assert paired_permutation_test(np.arange(1., 41), np.zeros(40), n_resamples=99) == 0.01


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels(p):
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])


@few
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30))
def test_rank_measures_are_scipys_with_ties(pairs):
    a, b = np.array(pairs, dtype=float).T
    u = scipy.stats.mannwhitneyu(a, b).statistic
    assert math.isclose(cliffs_delta(a, b), 2*u/(a.size*b.size) - 1, abs_tol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isclose(spearman(a, b), scipy.stats.spearmanr(a, b).statistic, equal_nan=True)
        assert np.isclose(kendall(a, b), scipy.stats.kendalltau(a, b).statistic, equal_nan=True)


def test_spearman_interval_resamples_whole_clusters():
    rng = np.random.default_rng(1); clusters = np.repeat(np.arange(12), 3); a = rng.integers(1, 6, 36).astype(float); b = a + rng.normal(size=36)
    draws = []
    for counts in np.concatenate([*resample_counts(12, 200, seed=4)]).astype(int):
        w = counts[clusters]; draws.append(scipy.stats.spearmanr(np.repeat(a, w), np.repeat(b, w)).statistic)
    # clusters are named by text, hence in the order of their names; the names chosen here sort as the numbers do
    found = spearman_interval(a, b, [f"{c:02}" for c in clusters], n_resamples=200, seed=4)
    assert np.allclose([found.low, found.high], np.quantile(draws, [.025, .975]))


def test_missing_pairs_are_left_out():
    nan = math.nan; a, b = [1, 2, nan, 4, 5, 3], [2, 1, 3, nan, 5, 4]
    assert spearman(a, b) == spearman([1, 2, 5, 3], [2, 1, 5, 4])
    assert spearman_interval(a, b, n_resamples=50).value == spearman(a, b)


@pytest.mark.parametrize("call", [
    lambda: bootstrap_interval([7.]), lambda: bootstrap_interval([7.], np.median), lambda: cluster_bootstrap([1, 2, 3], ["a"]*3),
    lambda: cluster_ratio([1, 2], [0, 0]),
    lambda: cohen_dz([1, 2], [1, 2]), lambda: cohen_dz([1.1, 2.1, 3.1], [1, 2, 3]), lambda: spearman([1, 1, 1], [1, 2, 3]), lambda: kendall([1], [1]),
    lambda: spearman([], []), lambda: spearman_interval([math.nan]*3, [1, 2, 3])])
def test_undefined_is_nan_with_a_warning(call):
    with pytest.warns(DegenerateWarning): found = call()
    assert math.isnan(getattr(found, "high", found))


@pytest.mark.parametrize("call, says", [
    (lambda: bootstrap_interval([]), "at least one number"), (lambda: bootstrap_interval([1, math.inf]), "not finite"),
    (lambda: bootstrap_interval([1, 2], method="basic"), "percentile, bca"), (lambda: bootstrap_interval([1, 2], level=95), "between 0 and 1"),
    (lambda: bootstrap_interval([1, 2], n_resamples=0), "n_resamples"), (lambda: cluster_bootstrap([1, 2], ["a"]), "1 clusters"),
    (lambda: paired_permutation_test([1, 2], [1]), "as many"), (lambda: holm([1.2]), "0 and 1"), (lambda: spearman([1, 2], [1]), "same length"),
    (lambda: spearman_interval([1, 2], [1, 2], ["a"]), "1 clusters")])
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(ValueError, match=says): call()


def test_constant_values_have_an_interval_of_no_width():
    for method in ("percentile", "bca"): assert vars(bootstrap_interval([3., 3., 3.], method=method)) == dict(value=3, low=3, high=3, level=.95)
    with pytest.warns(DegenerateWarning): c = compare_paired([1, 2, 3], [1, 2, 3])
    assert c.p == 1 and c.difference.value == 0 and math.isnan(c.effect)


def test_several_statistics_share_their_resamples():
    x = np.random.default_rng(0).normal(size=(30, 2))
    both = bootstrap_sums(x, lambda s: s/30, 200, method="bca")
    alone = [bootstrap_sums(x[:, [i]], lambda s: s[..., 0]/30, 200, method="bca") for i in (0, 1)]
    assert np.allclose([vars(i)["low"] for i in both], [vars(i)["low"] for i in alone])
