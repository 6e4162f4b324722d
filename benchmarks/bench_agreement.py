"""Agreement of two raters with intervals, against a loop over library calls.

python benchmarks/bench_agreement.py [ITEMS] [RESAMPLES]
    500 items and 10,000 resamples by default; the loop is timed on 40 resamples

The loop does what a careful person would: scikit-learn for the three κ, krippendorff for the
three α, SciPy for ρ and τ, statsmodels for Fleiss' κ from a table that NumPy counts. The
rest is plain NumPy: pingouin's ICC, irrCAC, statsmodels' aggregate_raters and SciPy's Friedman
test would make the loop slower still.
"""

import statistics
import sys
import time
import warnings

import krippendorff, numpy as np, scipy.stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from arabic_dialog.rating.agreement import COEFFICIENTS, rater_agreement

POINTS = range(1, 6)


def gwet(x, weight):
    table = np.zeros((5, 5))
    np.add.at(table, (x[0] - 1, x[1] - 1), 1 / x.shape[1])
    p = (table.sum(0) + table.sum(1)) / 2
    chance = weight.sum() * (p * (1 - p)).sum() / 20
    return ((weight * table).sum() - chance) / (1 - chance)


def icc(x):
    k, n = x.shape
    mean = x.mean()
    msr = k * ((x.mean(0) - mean) ** 2).sum() / (n - 1)
    msc = n * ((x.mean(1) - mean) ** 2).sum() / (k - 1)
    mse = ((x - x.mean(0) - x.mean(1)[:, None] + mean) ** 2).sum() / ((n - 1) * (k - 1))
    return (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n), (msr - mse) / (
        msr + (msc - mse) / n
    )


def concordance(x):
    r = scipy.stats.rankdata(x, axis=1)
    return r.sum(0).var() / (len(x) * r.var(axis=1).sum())


D = abs(np.subtract.outer(np.arange(5), np.arange(5))) / 4
WEIGHTS = (np.eye(5), 1 - D, 1 - D**2)


def with_libraries(x):
    "The same coefficients, one call each (Conger's two are Cohen's for two raters)"
    kappas = [
        cohen_kappa_score(*x, labels=[*POINTS], weights=w) for w in (None, "linear", "quadratic")
    ]
    alphas = [
        krippendorff.alpha(x, level_of_measurement=level)
        for level in ("nominal", "ordinal", "interval")
    ]
    return [
        (x[0] == x[1]).mean(),
        (abs(x[0] - x[1]) < 2).mean(),
        *kappas,
        kappas[0],
        kappas[2],
        fleiss_kappa((x[..., None] == np.arange(1, 6)).sum(0)),
        *(gwet(x, w) for w in WEIGHTS),
        *alphas,
        *icc(x),
        scipy.stats.spearmanr(*x).statistic,
        scipy.stats.kendalltau(*x).statistic,
        concordance(x),
    ]


def main(items=500, resamples=10_000, rounds=5, looped=40):
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    x = np.clip(
        np.round(rng.normal(3.8, 0.9, items) + rng.normal(0, 0.5, (2, items))), 1, 5
    ).astype(int)
    found = rater_agreement(x, categories=POINTS, n_resamples=0)
    assert np.allclose([i.value for i in found.values()], with_libraries(x), atol=1e-9), (
        "the two ways disagree"
    )
    ours, theirs = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        rater_agreement(x, categories=POINTS, n_resamples=resamples)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(looped // rounds):
            with_libraries(x[:, rng.integers(items, size=items)])
        theirs.append((time.perf_counter() - start) / (looped // rounds) * resamples)
    a, b = statistics.median(ours), statistics.median(theirs)
    print(
        f"{len(COEFFICIENTS)} coefficients, {items} items, 2 raters, {resamples:,} resamples: "
        f"{a:.2f} s here, {b:,.0f} s by a loop over library calls (from {looped} resamples); "
        f"ratio {b / a:,.0f}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
