"""Agreement against scikit-learn, statsmodels, krippendorff, pingouin, SciPy and irrCAC

and against published tables; and on input at the edge
"""

import math
import warnings

import krippendorff
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.stats.inter_rater as inter_rater
from hypothesis import given, settings, strategies as st
from sklearn.metrics import cohen_kappa_score
from scipy.special import ndtr

from arabic_dialog.rating.agreement import COEFFICIENTS, Tallies, coefficient, kappa_context
from arabic_dialog.rating.agreement import rater_agreement, table_kappa
from arabic_dialog.core.records import UserError
from arabic_dialog.core.stats import DegenerateWarning


def named(name, detail=""):
    return f"{name}_{detail}" if detail else name


def cohen_kappa(a, b, weights=None, categories=None):
    return coefficient([a, b], named("kappa", weights), categories)


def gwet_ac(ratings, weights=None, categories=None):
    return coefficient(ratings, named("ac2", weights) if weights else "ac1", categories)


def icc(ratings, of_mean=False, categories=None):
    return coefficient(ratings, "icc_mean" if of_mean else "icc", categories)


def fleiss_kappa(ratings, categories=None):
    return coefficient(ratings, "fleiss", categories)


def krippendorff_alpha(ratings, level="ordinal", categories=None):
    return coefficient(ratings, named("alpha", level), categories)


def exact_agreement(a, b):
    return coefficient([a, b], "exact")


def within_one(a, b, categories=range(1, 6)):
    return coefficient([a, b], "within_one", categories)


nan = math.nan
few = settings(max_examples=60, deadline=None)
POINTS = range(1, 6)
# Krippendorff (2011), also irrCAC's cac.raw4raters
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
    [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
]
# three raters, thirty items, five missing ratings
THREE = [
    [2, 3, 3, 2, 4, 2, 4, 5, 3, 3, 4, 4, 3, 3, 4, 3, 3, 3, 1, 4, nan, 2, 2, 4, 4, 4, 1, 3, 4, 3],
    [4, 3, 3, nan, 3, 2, 4, 5, 2, 2, 4, 2, 3, 3, 4, 5, 2, 3, 1, 3, nan, 3, 2, 4, 4, 3, 1, 3, 4, 4],
    [3, 4, 3, 3, 3, 3, 3, 5, nan, 1, 4, 3, 4, 4, 3, 4, 2, 3, 1, 2, 2, 4, 2, 4, 4, 3, 1, 2, 4, 4],
]


@pytest.mark.parametrize(
    "weights, four, three",
    [  # irrCAC 0.4.4, weights identity, linear, quadratic
        (None, 0.775444068127, 0.354374218634),
        ("linear", 0.858739136433, 0.672923975791),
        ("quadratic", 0.914000723552, 0.856798349203),
    ],
)
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
        found = rater_agreement([a, b], ["spearman", "kendall"], POINTS, n_resamples=0)
        assert np.isclose(
            found["spearman"].value, scipy.stats.spearmanr(a, b).statistic, equal_nan=True
        )
        assert np.isclose(
            found["kendall"].value, scipy.stats.kendalltau(a, b).statistic, equal_nan=True
        )


@few
@given(
    st.lists(
        st.lists(st.sampled_from([1, 2, 4, 5, nan]), min_size=3, max_size=3),
        min_size=3,
        max_size=25,
    )
)
def test_alpha_is_krippendorffs_with_missing_ratings(rows):
    x = np.array(rows).T
    pairable = x[:, (~np.isnan(x)).sum(0) > 1]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        return
    for level in ("nominal", "ordinal", "interval"):
        assert math.isclose(
            krippendorff_alpha(x, level),
            krippendorff.alpha(x, level_of_measurement=level),
            abs_tol=1e-9,
        )


def test_kappa_of_a_table_is_statsmodels():
    table = np.random.default_rng(0).integers(1, 20, (4, 4))
    assert math.isclose(table_kappa(table), inter_rater.cohens_kappa(table).kappa)
    assert math.isclose(
        table_kappa(table, "quadratic"), inter_rater.cohens_kappa(table, wt="quadratic").kappa
    )


def of(ratings, *names, categories=POINTS):
    return [i.value for i in rater_agreement(ratings, names, categories, 0).values()]


@pytest.mark.parametrize(
    "ratings, scale, conger, quadratic, fleiss",
    [  # irrCAC 0.4.4
        (FOUR, None, 0.762066893651, None, 0.761169275422),
        (
            np.array(FOUR)[:, [1, 2, 3, 4, 6, 7, 8]],
            POINTS,
            0.791044776119,
            0.905405405405,
            0.790262172285,
        ),
    ],
)
def test_conger_and_fleiss_are_irrcacs(ratings, scale, conger, quadratic, fleiss):
    ours = of(ratings, "conger", "conger_quadratic", "fleiss", categories=scale)
    for o, theirs in zip(ours, (conger, quadratic, fleiss), strict=True):
        if theirs is not None:
            assert math.isclose(o, theirs, abs_tol=1e-11)


complete = st.integers(2, 5).flatmap(
    lambda k: st.lists(st.lists(st.integers(1, 5), min_size=k, max_size=k), min_size=5, max_size=25)
)


@few
@given(complete)
def test_many_raters_are_statsmodels_pingouins_and_scipys(rows):
    import pingouin

    x = np.array(rows, dtype=float).T
    k, n = x.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = (
            inter_rater.fleiss_kappa(inter_rater.aggregate_raters(x.T.astype(int), 6)[0])
            if np.ptp(x)
            else math.nan
        )
        assert np.isclose(fleiss_kappa(x, POINTS), theirs, atol=1e-9, equal_nan=True)
        if n > 1 and any(np.ptp(i) for i in x):
            w = scipy.stats.friedmanchisquare(*x.T).statistic / (k * (n - 1)) if n > 2 else math.nan
            assert n < 3 or np.isclose(of(x, "concordance")[0], w, atol=1e-9, equal_nan=True)
        long = pd.DataFrame(x).melt(ignore_index=False).reset_index()
        long.columns = ["rater", "item", "value"]
        found = (
            pingouin.intraclass_corr(long, targets="item", raters="rater", ratings="value")
            .set_index("Type")
            .ICC
        )
        for mean, name in ((False, "ICC(A,1)"), (True, "ICC(A,k)")):
            ours = icc(x, mean)
            if not math.isnan(ours):
                assert math.isclose(ours, found[name], rel_tol=1e-9, abs_tol=1e-9)
            else:
                assert (
                    np.ptp(x) == 0 or mean or not np.isfinite(found[name])
                )  # their mean form divides by what may be 0 or below


def test_undefined_icc_of_the_mean():
    "Items that vary less than chance can make the denominator of ICC(2,k) negative"
    x = [[1, 5], [5, 1], [3, 3]]
    assert icc(x) < 0
    with pytest.warns(DegenerateWarning, match="icc_mean is undefined"):
        assert math.isnan(icc(x, of_mean=True))


def test_intervals_are_those_of_resampled_libraries():
    "The same within the noise of 2,000 resamples: items drawn one by one, values by libraries"
    x = np.array(THREE)[:2]
    x = x[:, ~np.isnan(x).any(0)]
    n = x.shape[1]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        y = x[:, rng.integers(n, size=n)]
        draws.append(
            [
                cohen_kappa_score(*y, labels=[*POINTS], weights="linear"),
                krippendorff.alpha(y, level_of_measurement="ordinal"),
            ]
        )
    names = ["kappa_linear", "alpha_ordinal"]
    for method, theirs in (
        ("percentile", np.quantile(draws, [0.025, 0.975], axis=0).T),
        (
            "fisher",
            np.tanh(
                np.arctanh(of(x, *names))[:, None]
                + scipy.stats.t.ppf([0.025, 0.975], n - 1)
                * np.arctanh(draws).std(0)[:, None]
                * (n / (n - 1)) ** 0.5
            ),
        ),
    ):
        found = rater_agreement(x, names, POINTS, 4000, seed=2, method=method)
        assert np.allclose([[i.low, i.high] for i in found.values()], theirs, atol=0.05)
    assert (
        rater_agreement(x, names, POINTS, 50, seed=2)
        == rater_agreement(x, names, POINTS, 50, seed=2)
        != rater_agreement(x, names, POINTS, 50, seed=3)
    )


def test_more_raters_are_the_mean_over_pairs_on_the_items_both_rated():
    x = np.array(THREE)
    each = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = ~np.isnan(x[[i, j]]).any(0)
        each.append(
            cohen_kappa_score(x[i, both], x[j, both], labels=[*POINTS], weights="quadratic")
        )
    assert math.isclose(
        rater_agreement(x, ["kappa_quadratic"], POINTS, 0)["kappa_quadratic"].value, np.mean(each)
    )


@few
@given(
    st.lists(
        st.lists(st.sampled_from([1, 3, 5, nan]), min_size=2, max_size=2), min_size=1, max_size=6
    )
)
def test_every_coefficient_has_a_value_or_a_warning_on_any_input(rows):
    x = np.array(rows).T
    if np.isnan(x).all():
        with pytest.raises(UserError, match="no ratings"):
            rater_agreement(x)
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = rater_agreement(x, categories=POINTS, n_resamples=20)
    assert all(
        issubclass(w.category, DegenerateWarning) for w in seen
    )  # and no numerical warning leaks
    undefined = [n for n, i in found.items() if math.isnan(i.value)]
    assert all(any(str(w.message).startswith(f"{n} is undefined") for w in seen) for n in undefined)
    assert all(i.value <= 1 + 1e-9 for n, i in found.items() if n not in undefined)
    bounded = ("kappa", "kappa_quadratic", "spearman", "kendall")  # α and AC2 can fall below −1
    assert all(found[n].value >= -1 - 1e-9 for n in bounded if n not in undefined)


def test_a_rater_who_never_answered_counts_for_nothing():
    with_idle = rater_agreement([*THREE[:2], [nan] * 30], categories=POINTS, n_resamples=0)
    without = rater_agreement(THREE[:2], categories=POINTS, n_resamples=0)
    assert all(math.isclose(with_idle[n].value, without[n].value) for n in COEFFICIENTS)


def population(mean, spread, noise, bias):
    "Cells of two raters' table: items normal, thresholds half-way between the points, normal noise"
    x, w = np.polynomial.hermite_e.hermegauss(60)
    edges = np.r_[-np.inf, 1.5:5, np.inf]
    a, b = (
        np.diff(ndtr((edges - (mean + spread * x + s)[:, None]) / noise), axis=1) for s in (0, bias)
    )
    return np.einsum("g,gk,gl->kl", w / w.sum(), a, b)


def test_intervals_of_kappa_ac2_and_alpha_cover_the_truth():
    "Of 400 studies, chance alone leaves 92.8 to 97 %; see also benchmarks/coverage_agreement.py"
    rng = np.random.default_rng(0)
    names = ["kappa", "kappa_quadratic", "ac2_quadratic", "alpha_ordinal"]
    p = population(4.2, 0.8, 0.6, -0.2)
    both = p + p.T
    truth = {
        n: float(
            COEFFICIENTS[n](
                Tallies(
                    p[None],
                    p[None],
                    both * 1e9,
                    both,
                    np.zeros((2, 5)),
                    both.sum(1),
                    np.zeros(5),
                    np.arange(1.0, 6),
                )
            )
        )
        for n in names
    }
    hits, narrow = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for s in range(400):
        x = np.array(np.divmod(rng.choice(25, 100, p=p.ravel() / p.sum()), 5)) + 1
        for n, i in rater_agreement(x, names, POINTS, 300, seed=s).items():
            hits[n] += i.low <= truth[n] <= i.high
            narrow[n] += abs(truth[n] - i.value) <= 0.7 * (i.high - i.low) / 2
    assert all(0.92 <= h / 400 <= 0.98 for h in hits.values()), hits
    assert not any(0.92 <= h / 400 <= 0.98 for h in narrow.values()), (
        narrow
    )  # the test sees an interval that is too narrow


def test_the_paradox_is_told_with_its_numbers():
    excellent = [[4] * 6 + [5] * 94, [5] * 4 + [4] * 5 + [5] * 91]
    said = kappa_context(excellent, POINTS)
    text = said.remark()
    assert math.isclose(said.exact, exact_agreement(*excellent)) and math.isclose(
        said.kappa, cohen_kappa(*excellent)
    )
    assert math.isclose(said.expected, 0.94 * 0.95 + 0.06 * 0.05) and math.isclose(
        said.largest, (0.99 - said.expected) / (1 - said.expected)
    )
    for number in (
        f"{said.exact:.0%}",
        f"{said.prevalence:.0%}",
        f"{said.expected:.0%}",
        f"{said.kappa:.2f}",
        f"{said.ac1:.2f}",
    ):
        assert number in text
    assert (
        kappa_context(FOUR).remark() == ""
        and "undefined" in kappa_context([[5, 5], [5, 5]]).remark()
    )


@pytest.mark.parametrize(
    "ratings",
    [
        [[1, 2, 3]] * 2,
        [[1, 1, 1], [2, 2, 2]],
        [[1], [2]],
        [[1, nan], [nan, 2]],
        [[5] * 4] * 3,
        [[1, 2, nan], [nan] * 3],
        [[2, 2, 3, 3], [3, 3, 2, 2]],
    ],
)
def test_degenerate_studies_have_values_within_bounds_or_nan_with_a_warning(ratings):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = rater_agreement(ratings, categories=POINTS, n_resamples=50)
    said = " ".join(str(w.message) for w in seen)
    for n, i in found.items():
        assert (math.isnan(i.value) and f"{n} is undefined" in said) or i.value <= 1 + 1e-9
        assert (
            math.isnan(i.value)
            or (math.isnan(i.low) and f"{n} has no interval" in said)
            or i.low <= i.value <= i.high
        )


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: rater_agreement([[1, 2]]), "two raters"),
        (lambda: rater_agreement([[1], [2]], ["pi"]), "'pi' is not one of"),
        (lambda: cohen_kappa([1, 2.5], [1, 2], None, POINTS), "2.5 is not on the scale"),
        (lambda: krippendorff_alpha([[1], [1]], "ratio"), "'alpha_ratio'"),
        (lambda: gwet_ac([[1], [1]], "cubic"), "'ac2_cubic'"),
        (lambda: within_one([1], [9]), "rating 9"),
        (lambda: icc([[1, math.inf], [1, 2]]), "infinite"),
        (lambda: icc([["x"], [1]]), "should be numbers"),
        (lambda: icc([[1, 2], [1]]), "should be numbers"),
        (lambda: icc(np.random.default_rng(0).normal(size=(2, 101))), "202 different ratings"),
        (lambda: rater_agreement([[1], [2]], level=95), "level is 95"),
        (lambda: rater_agreement([[1], [2]], method="wald"), "'wald'"),
        (lambda: rater_agreement([[1], [2]], categories=[]), "empty"),
        (lambda: rater_agreement([[1], [2]], categories=[1, 2, nan]), "finite"),
    ],
)
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(UserError, match=says):
        call()


@pytest.mark.parametrize(
    "a, b, name, scale, wanted",
    [  # of public reports: scikit-learn, skll, TensorFlow Addons
        ([1, 2, 3, 3, 2, 1], [1, 1, 1, 2, 2, 2], "kappa", None, 0),
        ([1, 3], [1, 1], "kappa_quadratic", [1, 2, 3], 0),
        (
            [4, 4, 3, 4, 2, 4, 1, 1],
            [4, 4, 3, 4, 4, 2, 1, 1],
            "kappa_quadratic",
            range(5),
            0.6893204,
        ),
        ([4, 4, 3, 4, 2, 4, 1, 1], [4, 4, 3, 4, 4, 2, 1, 1], "kappa_linear", range(5), 0.6279070),
        ([1, 2, 5, 1], [1, 5, 5, 2], "kappa_quadratic", range(1, 6), 0.6363636),
        ([1] * 118 + [1] * 5 + [2] * 2, [1] * 118 + [2] * 5 + [1] * 2, "ac1", None, 0.94078),
        ([1] * 118 + [1] * 5 + [2] * 2, [1] * 118 + [2] * 5 + [1] * 2, "kappa", None, -0.02339),
    ],
)
def test_coefficients_of_public_reports(a, b, name, scale, wanted):
    assert coefficient([a, b], name, scale) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("scale", [None, [1, 2, 3]])
def test_raters_who_always_say_the_same_have_no_kappa(scale):
    with pytest.warns(DegenerateWarning):
        assert math.isnan(coefficient([[1] * 5, [1] * 5], "kappa", scale))


def test_the_judges_of_shrout_and_fleiss():
    judges = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    )
    assert coefficient(judges.T, "icc") == pytest.approx(0.28976, abs=1e-5)
    assert coefficient(judges.T, "icc_mean") == pytest.approx(0.62005, abs=1e-5)
