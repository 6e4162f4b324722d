"Plans of any size over any grid are even, and grow without losing what they have"

from collections import Counter

from hypothesis import given, settings, strategies as st

from arabic_dialog.core.records import Scenario
from arabic_dialog.generation.scenarios import (
    Country,
    Topic,
    draw_n_turns,
    plan_scenarios,
    render_prompt,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(0, 3), st.data())
def test_any_plan_is_even(rows, columns, variants, seed, data):
    topics, countries = (
        {f"t{i}": None for i in range(rows)},
        {f"C{i}": None for i in range(columns)},
    )
    n = data.draw(st.integers(1, rows * columns * variants))
    plan = plan_scenarios(topics, countries, variants, n, seed)
    assert len({s.id for s in plan}) == len(plan) == n
    for counts, groups in (
        (Counter(s.topic for s in plan), rows),
        (Counter(s.country for s in plan), columns),
        (Counter((s.topic, s.country) for s in plan), rows * columns),
    ):
        sizes = [*counts.values(), *[0] * (groups - len(counts))]
        assert max(sizes) - min(sizes) <= 1
    grid = [s.id for s in plan_scenarios(topics, countries, variants)]
    assert [i for i in grid if i in {s.id for s in plan}] == [
        s.id for s in plan
    ]  # in the order of the grid
    if n > 1:
        assert {s.id for s in plan_scenarios(topics, countries, variants, n - 1, seed)} < {
            s.id for s in plan
        }


@given(st.text("ab-", min_size=1), st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))
def test_turns_are_even_and_within_bounds(topic, low, more, seed):
    n = draw_n_turns(Scenario(f"{topic}_EG_0", topic, "EG", 0), low, max(low + more, 2) + 1, seed)
    assert n % 2 == 0 and max(low, 2) <= n <= max(low + more, 2) + 1


@given(st.text(min_size=1), st.text())
def test_a_value_is_put_in_as_it_stands(name, register):
    country = Country("EG", "مصر", "Egypt", "f", "", "", "p", "p", "c", "c", "l", (), "r")
    prompt = render_prompt(
        "<{topic}|{register}> {country} {n_turns}",
        Scenario("t_EG_0", "t", "EG", 0),
        Topic("t", "food", name, "T"),
        country,
        6,
        register,
    )
    assert prompt == f"<{name}|{register}> مصر 6"
