"Agreement against scikit-learn, statsmodels, krippendorff, SciPy, and values that Gwet's irrCAC gives; and on input at the edge"
import math, warnings

import krippendorff, numpy as np, pytest, scipy.stats
from hypothesis import given, settings, strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from arabic_dialog.agreement import COEFFICIENTS, agreement, cohen_kappa, gwet_ac, krippendorff_alpha, table_kappa, within_one
from arabic_dialog.core import UserError
from arabic_dialog.stats import DegenerateWarning, resample_counts

nan = math.nan
few = settings(max_examples=60, deadline=None)
POINTS = range(1, 6)
# Krippendorff (2011), also irrCAC's cac.raw4raters
FOUR = [[1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan]]
# three raters, thirty items, five missing ratings
THREE = [[2, 3, 3, 2, 4, 2, 4, 5, 3, 3, 4, 4, 3, 3, 4, 3, 3, 3, 1, 4, nan, 2, 2, 4, 4, 4, 1, 3, 4, 3],
         [4, 3, 3, nan, 3, 2, 4, 5, 2, 2, 4, 2, 3, 3, 4, 5, 2, 3, 1, 3, nan, 3, 2, 4, 4, 3, 1, 3, 4, 4],
         [3, 4, 3, 3, 3, 3, 3, 5, nan, 1, 4, 3, 4, 4, 3, 4, 2, 3, 1, 2, 2, 4, 2, 4, 4, 3, 1, 2, 4, 4]]


@pytest.mark.parametrize("weights, four, three", [  # irrCAC 0.4.4, weights identity, linear, quadratic
    (None, 0.775444068127, 0.354374218634), ("linear", 0.858739136433, 0.672923975791), ("quadratic", 0.914000723552, 0.856798349203)])
def test_gwet_is_irrcacs(weights, four, three):
    assert math.isclose(gwet_ac(FOUR, weights), four, abs_tol=1e-11)
    assert math.isclose(gwet_ac(THREE, weights, POINTS), three, abs_tol=1e-11)


pairs = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=40)


@few
@given(pairs)
def test_kappa_is_scikit_learns_and_ranks_are_scipys(said):
    a, b = np.array(said, dtype=float).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for weights in (None, "linear", "quadratic"):
            theirs = cohen_kappa_score(a, b, labels=[*POINTS], weights=weights)
            assert np.isclose(cohen_kappa(a, b, weights, POINTS), theirs, atol=1e-9, equal_nan=True)
        found = agreement([a, b], ["spearman", "kendall"], POINTS, n_resamples=0)
        assert np.isclose(found["spearman"].value, scipy.stats.spearmanr(a, b).statistic, equal_nan=True)
        assert np.isclose(found["kendall"].value, scipy.stats.kendalltau(a, b).statistic, equal_nan=True)


@few
@given(st.lists(st.lists(st.sampled_from([1, 2, 4, 5, nan]), min_size=3, max_size=3), min_size=3, max_size=25))
def test_alpha_is_krippendorffs_with_missing_ratings(rows):
    x = np.array(rows).T; pairable = x[:, (~np.isnan(x)).sum(0) > 1]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2: return
    for level in ("nominal", "ordinal", "interval"):
        assert math.isclose(krippendorff_alpha(x, level), krippendorff.alpha(x, level_of_measurement=level), abs_tol=1e-9)


def test_kappa_of_a_table_is_statsmodels():
    table = np.random.default_rng(0).integers(1, 20, (4, 4))
    assert math.isclose(table_kappa(table), cohens_kappa(table).kappa)
    assert math.isclose(table_kappa(table, "quadratic"), cohens_kappa(table, wt="quadratic").kappa)


def test_intervals_are_a_loop_over_the_libraries():
    x = np.array(THREE)[:2]; x = x[:, ~np.isnan(x).any(0)]; draws = []
    for counts in np.concatenate([*resample_counts(x.shape[1], 100, seed=2)]).astype(int):
        y = np.repeat(x, counts, axis=1)
        draws.append([cohen_kappa_score(*y, labels=[*POINTS], weights="linear"), krippendorff.alpha(y, level_of_measurement="ordinal")])
    found = agreement(x, ["kappa_linear", "alpha_ordinal"], POINTS, n_resamples=100, seed=2)
    assert np.allclose([[i.low, i.high] for i in found.values()], np.quantile(draws, [.025, .975], axis=0).T)


def test_more_raters_are_the_mean_over_pairs_on_the_items_both_rated():
    x = np.array(THREE); each = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = ~np.isnan(x[[i, j]]).any(0)
        each.append(cohen_kappa_score(x[i, both], x[j, both], labels=[*POINTS], weights="quadratic"))
    assert math.isclose(agreement(x, ["kappa_quadratic"], POINTS, 0)["kappa_quadratic"].value, np.mean(each))


@few
@given(st.lists(st.lists(st.sampled_from([1, 3, 5, nan]), min_size=2, max_size=2), min_size=1, max_size=6))
def test_every_coefficient_has_a_value_or_a_warning_on_any_input(rows):
    x = np.array(rows).T
    if np.isnan(x).all():
        with pytest.raises(UserError, match="no ratings"): agreement(x)
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = agreement(x, categories=POINTS, n_resamples=20)
    assert all(issubclass(w.category, DegenerateWarning) for w in seen)  # and no numerical warning leaks
    undefined = [n for n, i in found.items() if math.isnan(i.value)]
    assert all(any(str(w.message).startswith(f"{n} is undefined") for w in seen) for n in undefined)
    assert all(i.value <= 1 + 1e-9 for n, i in found.items() if n not in undefined)
    bounded = ("kappa", "kappa_quadratic", "spearman", "kendall")  # α and AC2 can fall below −1
    assert all(found[n].value >= -1 - 1e-9 for n in bounded if n not in undefined)


def test_a_rater_who_never_answered_counts_for_nothing():
    with_idle = agreement([*THREE[:2], [nan]*30], categories=POINTS, n_resamples=0)
    without = agreement(THREE[:2], categories=POINTS, n_resamples=0)
    assert all(math.isclose(with_idle[n].value, without[n].value) for n in COEFFICIENTS)


def test_intervals_of_kappa_ac2_and_alpha_cover_the_truth():
    rng = np.random.default_rng(0); names = ["kappa_quadratic", "ac2_quadratic", "alpha_ordinal"]
    def draw(n): return np.clip(np.round(3.4 + rng.normal(size=n) + .6*rng.normal(size=(2, n))), 1, 5)
    truth = agreement(draw(400_000), names, POINTS, 0); hits = dict.fromkeys(names, 0)
    for s in range(250):
        for n, i in agreement(draw(100), names, POINTS, 400, seed=s).items(): hits[n] += i.low <= truth[n].value <= i.high
    assert all(.90 <= h/250 <= .98 for h in hits.values()), hits


@pytest.mark.parametrize("call, says", [
    (lambda: agreement([[1, 2]]), "two raters"), (lambda: agreement([[1], [2]], ["pi"]), "'pi' is not one of"),
    (lambda: cohen_kappa([1, 2.5], [1, 2], None, POINTS), "2.5 is not on the scale"),
    (lambda: krippendorff_alpha([[1], [1]], "ratio"), "'ratio'"), (lambda: gwet_ac([[1], [1]], "cubic"), "'cubic'"),
    (lambda: within_one([1], [9]), "rating 9")])
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(UserError, match=says): call()
