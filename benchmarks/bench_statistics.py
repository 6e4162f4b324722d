"""Bootstrap intervals of a table of models, against a loop over SciPy calls, and tests of all
pairs.

python benchmarks/bench_statistics.py [TURNS] [MODELS]
    5,000 turns in 1,000 conversations and 8 models by default; 10,000 resamples
"""

import resource
import sys
import time

import numpy as np, scipy.stats

from arabic_dialog.core.stats import (
    bootstrap_sums,
    paired_permutation_test,
    spearman_interval,
    sum_by,
)

RESAMPLES = 10_000


def timed(f, rounds=3):
    "(the median of the seconds of this process that `f` takes, what it gives)"
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        out = f()
        taken.append(time.process_time() - start)
    return sorted(taken)[rounds // 2], out


def columns(x):
    "Each column of `x`, and each difference of two"
    return [*x.T] + [x[:, i] - x[:, j] for i in range(x.shape[1]) for j in range(i + 1, x.shape[1])]


def with_sums(table, clusters, method="percentile"):
    "The intervals of all columns and differences from one set of resamples"
    k = table.shape[1]
    a, b = np.triu_indices(k, 1)

    def means_and_differences(sums):
        means = sums[..., :k] / sums[..., k:]
        return np.concatenate([means, means[..., a] - means[..., b]], -1)

    rows = sum_by(clusters, *table.T, np.ones(len(table)))
    return bootstrap_sums(rows, means_and_differences, RESAMPLES, method=method)


def with_scipy(table, method):
    """An interval for each model and for each difference of two, one call of scipy.stats.bootstrap
    after the other
    """
    return [
        scipy.stats.bootstrap(
            (c,),
            np.mean,
            n_resamples=RESAMPLES,
            method=method,
            batch=2**21 // len(c),
            rng=np.random.default_rng(0),
        ).confidence_interval
        for c in columns(table)
    ]


def by_cluster_with_scipy(sums, sizes, vectorized):
    """The same over conversations: SciPy draws their numbers, the statistic adds up and divides,
    for one resample or for many
    """

    def ratio(c):
        return (
            (lambda u, axis: c[u].sum(axis) / sizes[u].sum(axis))
            if vectorized
            else (lambda u: c[u].sum() / sizes[u].sum())
        )

    return [
        scipy.stats.bootstrap(
            (np.arange(len(sums)),),
            ratio(c),
            n_resamples=RESAMPLES,
            method="percentile",
            vectorized=vectorized,
            batch=2**21 // len(sums) if vectorized else None,
            rng=np.random.default_rng(0),
        ).confidence_interval
        for c in columns(sums)
    ]


def main(n_turns=5000, n_models=8):
    rng = np.random.default_rng(0)
    clusters = np.arange(n_turns) // 5
    table = rng.random((n_turns, 1)) + rng.random((n_turns, n_models))
    sums = np.stack([np.bincount(clusters, c) for c in table.T], 1)
    sizes = np.bincount(clusters).astype(float)
    names = [
        f"{c:06}" for c in clusters
    ]  # clusters are named by text, in whose order they are drawn
    n = n_models * (n_models + 1) // 2
    print(
        f"{n_turns:,} turns, {n_models} models, {RESAMPLES:,} resamples: {n} intervals, of every "
        "model and every difference of two; seconds of one core, median of rounds"
    )
    for label, ours, theirs in (
        (
            "turns, percentile",
            lambda: with_sums(table, None),
            lambda: with_scipy(table, "percentile"),
        ),
        (
            "turns, BCa (SciPy's default)",
            lambda: with_sums(table, None, "bca"),
            lambda: with_scipy(table, "bca"),
        ),
        (
            "conversations",
            lambda: with_sums(table, names),
            lambda: by_cluster_with_scipy(sums, sizes, True),
        ),
        (
            "conversations, one by one",
            lambda: with_sums(table, names),
            lambda: by_cluster_with_scipy(sums, sizes, False),
        ),
    ):
        (a, intervals), (b, other) = timed(ours), timed(theirs, 1)
        assert np.allclose([(i.low, i.high) for i in intervals], other)
        print(
            f"  {label:30} {a:6.2f} s here, {b:6.1f} s in a loop over scipy.stats.bootstrap: "
            f"{b / a:4.0f} times as fast, the same intervals to the last digits"
        )
    d = sums[:, 0] - sums[:, 1]
    a, p = timed(lambda: paired_permutation_test(table[:, 0], table[:, 1], names, RESAMPLES - 1))
    b, q = timed(
        lambda: (
            scipy.stats.permutation_test(
                (d, 0 * d),
                lambda x, y, axis: (x - y).sum(axis),
                permutation_type="samples",
                n_resamples=RESAMPLES - 1,
                vectorized=True,
                batch=2**20 // len(d),
                rng=np.random.default_rng(0),
            ).pvalue
        ),
        1,
    )
    print(
        f"  {'permutation test':30} {a:6.2f} s here, {b:6.1f} s in scipy.stats.permutation_test: "
        f"{b / a:4.0f} times as fast; p = {p:.3f} and {q:.3f}"
    )
    x, y = table[:1000, 0], table[:1000, 1]
    a, i = timed(lambda: spearman_interval(x, y, None, 1000), 1)
    b, j = timed(
        lambda: (
            scipy.stats.bootstrap(
                (x, y),
                lambda x, y: scipy.stats.spearmanr(x, y).statistic,
                paired=True,
                vectorized=False,
                n_resamples=1000,
                method="percentile",
                rng=np.random.default_rng(0),
            ).confidence_interval
        ),
        1,
    )
    print(
        f"  {'ρ of 1,000 turns':30} {a:6.2f} s here, {b:6.1f} s in a loop over "
        f"scipy.stats.spearmanr (1,000 resamples): {b / a:4.0f} times as fast; [{i.low:.3f}, "
        f"{i.high:.3f}] and [{j.low:.3f}, {j.high:.3f}]"
    )
    print(
        f"  memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, "
        "SciPy and its loops included"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
