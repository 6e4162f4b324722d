"Plans of a study: formula against statsmodels and simulated studies; what cannot be planned"

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from statsmodels.stats.power import TTestPower

from arabic_dialog.rating.agreement import rater_agreement
from arabic_dialog.core.records import Rating, UserError
from arabic_dialog.core.stats import paired_permutation_test
from arabic_dialog.rating.power import (
    Aim,
    Expected,
    difference_sd,
    draw_differences,
    kappa_half_width,
    matching_model,
    permutation_p,
    pilot_values,
    planned_power,
    print_rating_plan,
    simulated_power,
    smallest_difference,
    turns_needed,
)

expected = st.builds(
    Expected,
    st.integers(1, 6),
    st.floats(0.3, 1.5),
    st.floats(0.1, 0.9),
    st.floats(2, 4.5),
    st.floats(-0.5, 0.8),
)


@settings(max_examples=40, deadline=None)
@given(expected, st.floats(0.05, 1.5), st.integers(2, 400))
def test_power_is_statsmodels(e, effect, turns):
    many = replace(e, raters=10**7)
    theirs = [float(TTestPower().power(effect / difference_sd(x), turns, 0.05)) for x in (e, many)]
    if not math.isnan(theirs[1]):
        assert math.isclose(
            planned_power(effect, turns, many), theirs[1], abs_tol=1e-6
        )  # SciPy gives NaN far out
    if not math.isnan(theirs[0]):
        assert (
            planned_power(effect, turns, e) <= theirs[0] + 1e-9
        )  # whole points make the test a little strict


@settings(max_examples=40, deadline=None)
@given(expected, st.floats(0.1, 1.5), st.integers(2, 5), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_number_of_turns_is_the_smallest_and_the_difference_inverts_it(
    e, effect, models, power
):
    n = turns_needed(effect, e, models, power)
    assert planned_power(effect, n, e, models) >= power and (
        n == 2 or planned_power(effect, n - 1, e, models) < power
    )
    assert smallest_difference(n, e, models, power) <= effect + 1e-6
    if n > 2:
        assert smallest_difference(n - 1, e, models, power) >= effect - 1e-6


@pytest.mark.parametrize(
    "effect, e, models, power",
    [
        (0.3, Expected(), 2, 0.8),
        (0.3, Expected(3, 0.9, 0.5, 3.6, 0.3), 2, 0.9),
        (0.5, Expected(2, 1.1, 0.6, 3.0, 0.3), 4, 0.8),
        (0.5, Expected(2, 0.7, 0.75, 3.0, 0.3), 2, 0.8),
    ],
)
def test_planned_power_is_met_within_three_points(effect, e, models, power):
    "The large simulation is benchmarks/coverage_power.py"
    n = turns_needed(effect, e, models, power)
    met = simulated_power(effect, n, e, models, studies=2000, seed=1)
    assert abs(met - planned_power(effect, n, e, models)) < 0.03
    assert (
        abs(simulated_power(effect, max(2, n // 2), e, models, studies=1000, seed=1) - power) > 0.1
    )  # the test sees a study that is too small


def test_the_test_of_many_studies_is_the_test_of_one():
    d = draw_differences(0.2, 40, Expected(), 12, seed=3)
    one = [paired_permutation_test(x, np.zeros(40), n_resamples=9999) for x in d]
    assert np.allclose(permutation_p(d, 9999), one, atol=0.03)
    assert (
        abs((permutation_p(draw_differences(0, 40, Expected(), 3000), 999) <= 0.05).mean() - 0.05)
        < 0.013
    )


def test_draws_have_the_spread_that_the_formula_has():
    for e in (
        Expected(),
        Expected(3, 0.7, 0.4, 3.0),
        Expected(2, 1.2, 0.7, 3.5, 0.4),
        Expected(1, 0.9, 0.6, 4.0, -0.3),
    ):
        d = draw_differences(0.3, 200, e, 500)
        assert (
            abs(d.mean() - 0.3) < 0.02
            and abs(d.std() - difference_sd(e)) < 0.03 * difference_sd(e) + 0.005
        )


def test_the_interval_of_kappa_is_as_wide_as_planned():
    e = Expected(2, 1.0, 0.6, 3.8)
    (c, _), spread, noise = matching_model(e)
    rng = np.random.default_rng(0)
    widths = []
    for s in range(40):
        x = 1 + np.searchsorted(
            (1.5, 2.5, 3.5, 4.5),
            c + spread * rng.normal(size=150) + noise * rng.normal(size=(2, 150)),
        )
        i = rater_agreement(x, ["kappa_quadratic"], range(1, 6), 300, seed=s)["kappa_quadratic"]
        widths.append((i.high - i.low) / 2)
    assert abs(np.mean(widths) - kappa_half_width(150, e)) < 0.02


def test_a_pilot_says_what_to_expect():
    e = Expected(3, 1.0, 0.6, 3.5)
    (c, _), spread, noise = matching_model(e)
    rng = np.random.default_rng(0)
    worth = spread * rng.normal(size=600)
    model = {f"i{n}": "xy"[n % 2] for n in range(600)}
    x = 1 + np.searchsorted(
        (1.5, 2.5, 3.5, 4.5),
        c
        + np.array([[0.3], [0], [-0.3]])
        + worth
        + np.where(np.arange(600) % 2, 0.4, -0.4)
        + noise * rng.normal(size=(3, 600)),
    )
    rows = [
        Rating(f"i{n}", r, "overall", int(v))
        for r, of in zip("abc", x, strict=True)
        for n, v in enumerate(of)
    ]
    seen = pilot_values(rows, models=model)
    assert (
        seen.raters == 3
        and abs(seen.sd - 1) < 0.08
        and abs(seen.agreement - 0.6) < 0.06
        and abs(seen.mean - 3.5) < 0.15
    )
    assert pilot_values(rows).sd > seen.sd  # models' own difference is not spread within a model


def test_a_plan_is_printed_with_what_it_assumes():
    said = []
    print_rating_plan(Aim(0.3, models=4), Expected(raters=4), studies=400, say=said.append)
    text = "\n".join(said)
    for part in (
        "0.3 points",
        "Holm's correction over 6 pairs",
        "(assumed)",
        "simulated raters, seed 0",
        "→",
    ):
        assert part in text
    said = []
    print_rating_plan(Aim(0.3), studies=0, say=said.append)
    assert "simulat" not in "\n".join(said)


@pytest.mark.parametrize(
    "given, says",
    [
        (dict(effect=0), "should be above 0"),
        (dict(effect=5), "below 4"),
        (dict(raters=0), "at least one"),
        (dict(sd=0), "sd is 0"),
        (dict(sd=math.nan), "sd is nan"),
        (dict(agreement=1), "agreement is 1"),
        (dict(mean=5), "mean rating is 5"),
        (dict(pairing=1), "pairing is 1"),
        (dict(models=1), "takes two"),
        (dict(power=80), "power is 80"),
        (dict(level=95), "level is 95"),
        (dict(seconds=-1), "seconds"),
        (dict(mean=4.9, sd=1.8), "cannot come from"),
        (dict(effect=math.nan), "should be above 0"),
    ],
)
def test_what_cannot_be_planned_is_refused(given, says):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=says):
            plan(**given)


def plan(effect=0.3, models=2, power=0.8, level=0.95, seconds=45, **expected):
    aim = Aim(effect, models, power, level)
    print_rating_plan(aim, Expected(**expected), seconds, say=lambda _: None)
