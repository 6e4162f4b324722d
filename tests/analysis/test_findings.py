"Findings come from the tests of a run: both ways, and neither where nothing is known"

import json
import math
import random
import re
from pathlib import Path

import pandas as pd
import pytest

from arabic_dialog.analysis.findings import compared, compared_words, difference_sense, fold_words
from arabic_dialog.analysis.findings import interval_sense, interval_words, lead_words
from arabic_dialog.analysis.findings import spread_words, strength_words

PAPER = Path(__file__).resolve().parents[2] / "nbs" / "paper"
nan = math.nan


def pairs_of(*rows):
    return pd.DataFrame(rows, columns=["metric", "a", "b", "difference", "p_holm"])


@pytest.mark.parametrize(
    "difference, p, words",
    [
        (0.2, 0.001, "ahead of m (p = 0.001)"),
        (-0.2, 0.001, "behind m (p = 0.001)"),
        (0.2, 0.05, "not told apart from m (p = 0.05)"),
        (-0.2, 0.8, "not told apart from m (p = 0.8)"),
        (0.0, 0.001, "not told apart from m (p = 0.001)"),
        (0.2, nan, "not told apart from m (p = nan)"),
    ],
)
def test_a_comparison_says_what_its_test_says_from_either_side(difference, p, words):
    for row in (("raven", "x", "m", difference, p), ("raven", "m", "x", -difference, p)):
        found = compared(pairs_of(row), "raven", "x", "m")
        assert compared_words(found, "m", "ahead of", "behind") == words
    assert compared(pairs_of(row), "on_both", "x", "m") is None


@pytest.mark.parametrize(
    "fold, low, high, words",
    [
        (3, 2, 4, "3.0 times lower"),
        (0.5, 0.4, 0.6, "2.0 times higher"),
        (3, 0.2, 40, "not told apart from before"),
        (3, nan, nan, "3.0 times lower in the one training"),
        (0.5, nan, nan, "2.0 times higher in the one training"),
    ],
)
def test_a_perplexity_may_fall_or_rise(fold, low, high, words):
    assert fold_words(fold, low, high) == words


def test_the_first_is_ahead_of_those_it_is_ahead_of():
    labels = {"x": "X", "a": "A", "b": "B"}
    rows = [("raven", "x", "a", 0.2, 0.01), ("raven", "b", "x", -0.3, 0.02)]
    assert lead_words(pairs_of(*rows), "raven", "x", labels) == "it is ahead of all 2 others"
    one = pairs_of(rows[0], ("raven", "b", "x", -0.3, 0.2))
    said = lead_words(one, "raven", "x", labels)
    assert said == "it is ahead of 1 of 2 others, and cannot be told apart from “B”"
    none = pairs_of(("raven", "a", "x", 0.2, 0.01), ("raven", "b", "x", 0.3, 0.02))
    assert lead_words(none, "raven", "x", labels) == "it is ahead of no other"
    assert lead_words(pairs_of(), "raven", "x", {"x": "X"}) == "it is ahead of no other"


def test_one_seed_speaks_of_no_other():
    assert "seed" not in interval_words(1) and "nothing of another" in interval_words(1)
    assert "3 fine-tuning seeds" in interval_words(3)
    assert spread_words([0.5]) == "0.50" and spread_words([0.7, 0.5]) == "0.50 to 0.70"


def test_strength_is_a_size_that_was_told_from_none():
    assert strength_words(0.28, 0.2, 0.3) == "weak agreement"
    assert strength_words(-0.7, -0.8, -0.5) == "strong disagreement"
    for low, high in ((-0.1, 0.9), (nan, nan)):
        assert "told from none" in strength_words(0.6, low, high)


def test_wider_intervals_and_larger_p_only_ever_unsay():
    rng = random.Random(0)
    for _ in range(5_000):
        value, half, more = rng.gauss(0, 1), rng.expovariate(1), rng.expovariate(1)
        first = interval_sense(value - half, value + half)
        second = interval_sense(value - half - more, value + half + more)
        assert second in (first, "unsure")
        p = rng.random() / 5
        assert difference_sense(value, p + more) in (difference_sense(value, p), "unsure")


def head(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return next("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


FINDING = (
    r"\b(lowers?|raises?|falls?|rises?|beats?|ranks|improves?|learns?|(more|less) \w+ than|"
    r"is (ahead|covered|better|worse)|are (covered|better|worse)|all seeds|a little)\b"
)


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_heading_says_what_is_shown_and_finds_nothing(path):
    title, *rest = head(path).splitlines()
    sentence = next(line for line in rest if line.startswith("> "))
    for text in (title, sentence):
        said = re.search(FINDING, text)
        assert said is None, f"{path.stem} finds before it has run: {text}"
    assert "seeds" not in sentence, f"{path.stem} speaks of seeds, of which a run may have one"
