"""How often the intervals of `rater_agreement` hold the value of the population that a study
was drawn from. Not a measurement of speed, and not a test.

python benchmarks/coverage_agreement.py [STUDIES] [ITEMS] [METHOD]
    4,000 studies of 100 items for each population, about ten minutes on one core
"""

import sys
import warnings

import numpy as np
from scipy.special import ndtr

from arabic_dialog.rating.agreement import COEFFICIENTS, rater_agreement, tally_items

NAMES = [
    n for n in COEFFICIENTS if not n.startswith("conger")
]  # for two raters Conger's κ is Cohen's
POINTS = np.arange(1.0, 6)
# of the items' latent value: mean, sd; of the raters: noise, severity of each, share of answers
# given without looking; share missing
POPULATIONS = {
    "all points used": (3.2, 1.0, 0.6, (0, 0.2), 0, 0),
    "good replies": (4.2, 0.8, 0.6, (0, -0.2), 0, 0),
    "nearly all 5 (κ paradox)": (4.7, 0.6, 0.7, (0, 0.1), 0, 0),
    "hardly any agreement": (3.5, 0.5, 1.0, (0, 0.3), 0, 0),
    "high agreement": (3.2, 1.2, 0.25, (0, 0), 0, 0),
    "one severe rater": (3.6, 0.9, 0.5, (0.4, -0.5), 0, 0),
    "a fifth of answers careless": (3.8, 1.0, 0.4, (0, 0.1), 0.2, 0),
    "three raters, a fifth missing": (3.8, 0.9, 0.6, (-0.3, 0, 0.2), 0, 0.2),
}


def population(mean, spread, noise, severity, careless):
    "Probability of each pattern of ratings, [5 ** raters], and the patterns, [raters, 5 ** raters]"
    x, w = np.polynomial.hermite_e.hermegauss(80)
    edges = np.r_[-np.inf, 1.5:5, np.inf]
    joint = (w / w.sum())[:, None]
    for s in severity:
        p = (1 - careless) * np.diff(
            ndtr((edges - (mean + spread * x + s)[:, None]) / noise), axis=1
        ) + careless / 5
        joint = (joint[:, :, None] * p[:, None, :]).reshape(len(x), -1)
    return joint.sum(0), np.array(np.unravel_index(np.arange(joint.shape[1]), [5] * len(severity)))


def main(studies=4000, items=100, method="fisher", seed=0):
    warnings.simplefilter("ignore")
    print(
        f"{studies:,} studies of {items} items in each population, 1,000 resamples, method "
        f"{method}, seed {seed}; 95 % intervals\n"
    )
    rng, lowest, highest = np.random.default_rng(seed), {}, {}
    for title, (*parts, missing) in POPULATIONS.items():
        p, patterns = population(*parts)
        t = tally_items(patterns, POINTS).total(1e9 * p)
        truth = {n: float(COEFFICIENTS[n](t)) for n in NAMES}
        hits, widths, known = ({n: 0.0 for n in NAMES} for _ in range(3))
        for s in range(studies):
            x = POINTS[patterns[:, rng.choice(p.size, items, p=p / p.sum())]]
            if missing:
                x = np.where(rng.random(x.shape) < missing, np.nan, x)
            for n, i in rater_agreement(x, NAMES, POINTS, 1000, seed=s, method=method).items():
                if not np.isnan(i.low):
                    known[n] += 1
                    hits[n] += i.low <= truth[n] <= i.high
                    widths[n] += i.high - i.low
        print(f"{title}\n  {'':16} {'true':>6} {'held':>7} {'width':>6}")
        for n in NAMES:
            share = hits[n] / known[n]
            lowest[n], highest[n] = min(lowest.get(n, 1), share), max(highest.get(n, 0), share)
            print(
                f"  {n:16} {truth[n]:6.3f} {share:7.1%} {widths[n] / known[n]:6.3f}"
                + (f"   of {known[n]:.0f} with an interval" if known[n] < studies else ""),
                flush=True,
            )
    print("\nover all populations")
    for n in NAMES:
        print(f"  {n:16} {lowest[n]:.1%} to {highest[n]:.1%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:4])
