"""The search against brute force, on texts that share much and with planted duplicates."""

import random

import pytest

from arabic_dialog.core.arabic import shingles
from arabic_dialog.generation.duplicates import DuplicateIndex, find_leaks, find_near_duplicates
from arabic_dialog.generation.grammar import Grammar


@pytest.fixture(scope="module")
def texts():
    "Conversations on three topics in a few countries, many alike, and spoilt copies of some"
    grammar, chance = Grammar.load(), random.Random(4)
    out = [
        "\n".join(
            t.text
            for t in grammar.dialogue(
                chance.choice(list(grammar.lexica)[:3]),
                chance.choice(["MA", "EG", "JP"]),
                chance,
                chance.choice((2, 4, 6)),
            )
        )
        for _ in range(400)
    ]
    for text in chance.sample(out, 200):
        w = text.split(" ")
        for _ in range(chance.randrange(6)):
            w[chance.randrange(len(w))] = chance.choice(("نعم", "الشاي", "كثيرًا"))
        out.append(" ".join(w))
    chance.shuffle(out)
    return out


def brute_force(texts, threshold):
    sets, kept, found = [shingles(t) for t in texts], [], {}
    for i, s in enumerate(sets):
        near = max(((len(s & sets[j]) / len(s | sets[j]), -j) for j in kept), default=(0, 0))
        if near[0] >= threshold:
            found[i] = (-near[1], near[0])
        else:
            kept.append(i)
    return found


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
def test_it_finds_what_brute_force_finds(texts, threshold):
    true, found = brute_force(texts, threshold), find_near_duplicates(texts, threshold)
    assert len(true) > 20 and len(found.keys() & true.keys()) >= 0.99 * len(true)
    assert sum(found.get(i) == near for i, near in true.items()) >= 0.98 * len(true)
    for i, (j, similarity) in found.items():
        a, b = shingles(texts[i]), shingles(texts[j])
        assert j < i and similarity == len(a & b) / len(a | b) >= threshold


def test_exact_duplicates_are_always_found(texts):
    apart = list(dict.fromkeys(texts))
    for threshold in (0.5, 0.8, 1):
        assert find_near_duplicates(apart + apart, threshold).keys() >= set(
            range(len(apart), 2 * len(apart))
        )


def test_what_an_index_says_depends_on_what_it_keeps(texts):
    whole = DuplicateIndex(0.8)
    said = [whole.add(i, t) for i, t in enumerate(texts)]
    resumed = DuplicateIndex(0.8)
    for i, t in enumerate(texts[:300]):
        if said[i] is None:
            resumed.keep(i, t)  # those turned away before the interruption never come back
    assert [resumed.add(i, t) for i, t in enumerate(texts[300:], 300)] == said[300:] and len(
        resumed
    ) == len(whole)
    assert all(whole.find(t) is not None for t in texts[:50])


def test_leaks_are_looked_for_across_splits_only(texts):
    train, heldout = texts[:300], texts[300:]
    leaks = find_leaks(train, heldout, 0.8)
    assert leaks and all(
        i < len(heldout) and j < len(train) and s >= 0.8 for i, (j, s) in leaks.items()
    )
    sets = [shingles(t) for t in train[:60]]
    true = {
        i
        for i, t in enumerate(heldout)
        if any(len(shingles(t) & u) >= 0.8 * len(shingles(t) | u) for u in sets)
    }
    assert true <= leaks.keys() and find_leaks(heldout[:1], ["", *heldout[:1] * 2], 0.8).keys() == {
        1,
        2,
    }


def test_a_threshold_out_of_range_is_named():
    for bad in (0, 1.5, -1, 0.01):
        with pytest.raises(ValueError, match=str(bad)):
            DuplicateIndex(bad)


def test_no_text_makes_it_raise():
    odd = [
        "\ud800",
        "",
        "…",
        "ا" * 100_000,
        "شاي " * 50_000,
        "\x00",
        "😀😀",
        "ا" * 100_000,
        "中文",
        "\ud800",
    ]
    assert {i: j for i, (j, _) in find_near_duplicates(odd).items()} == {
        1: 0,
        2: 0,
        5: 0,
        6: 0,
        7: 3,
        9: 0,
    }  # without a word: all alike
