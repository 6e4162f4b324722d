"""Is planned power met? For many plans: power by the formula against the share of simulated
studies that find the difference. Not a measurement of speed, and not a test.

python benchmarks/coverage_power.py [STUDIES]
    4,000 studies for each of 40 plans, a few minutes on one core
"""

import itertools
import random
import sys

from arabic_dialog.core.records import UserError
from arabic_dialog.rating.power import Expected, planned_power, simulated_power, turns_needed

GRID = dict(
    effect=(0.2, 0.3, 0.5),
    raters=(1, 2, 3, 5),
    sd=(0.7, 0.9, 1.1),
    agreement=(0.3, 0.5, 0.6, 0.75),
    mean=(3.0, 3.6, 4.0, 4.3),
    pairing=(0.0, 0.3),
    models=(2, 4),
    power=(0.8, 0.9),
)


def main(studies=4000, plans=40, seed=0):
    print(f"{studies:,} studies for each plan, seed {seed}\n")
    chosen = random.Random(seed).sample(list(itertools.product(*GRID.values())), plans)
    worst = 0.0
    print(
        f"{'effect':>6} {'raters':>6} {'sd':>4} {'agree':>5} {'mean':>5} {'pair':>4} "
        f"{'models':>6} {'turns':>6} {'planned':>8} {'met':>7}"
    )
    for effect, raters, sd, agreement, mean, pairing, models, power in chosen:
        try:
            e = Expected(raters, sd, agreement, mean, pairing)
            turns = turns_needed(effect, e, models, power)
            met = simulated_power(effect, turns, e, models, studies=studies, seed=seed)
        except UserError as error:
            print(f"left out: {error}")
            continue
        planned = planned_power(effect, turns, e, models)
        worst = max(worst, abs(met - planned), key=abs)
        print(
            f"{effect:6} {raters:6} {sd:4} {agreement:5} {mean:5} {pairing:4} {models:6} "
            f"{turns:6} {planned:8.1%} {met:7.1%}{'   *' if abs(met - planned) > 0.03 else ''}",
            flush=True,
        )
    print(f"\nlargest difference {100 * worst:.1f} points")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
