"""Measures of text: against their libraries, by hand, and on any text at all."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.metrics import text as tm
from arabic_dialog.metrics.perplexity import AssistantTurn, Likelihood
from arabic_dialog.metrics.replies import Reply
from arabic_dialog.models.encoders import load_encoder

TEXT = st.text("ابتثجحخدذرزسشص وف.؟!\u064b\u200f😀aZ1\n", max_size=80)


def test_chrf_is_sacrebleus_and_matching_is_symmetric():
    import sacrebleu

    a, b = "الخبز البلدي هو الأشهر في مصر.", "أشهر أنواع الخبز في مصر هو البلدي."
    assert tm.chrf([a], [b])[0] == sacrebleu.sentence_chrf(a, [b]).score
    encoder = load_encoder("ngrams")
    one, two = (tm.word_matching([x], [y], encoder).iloc[0] for x, y in ((a, b), (b, a)))
    assert one.precision == pytest.approx(two.recall) and one.f1 == pytest.approx(two.f1)
    with pytest.raises(UserError, match="1 references"):
        tm.chrf([a, b], [a])


def test_mutual_information_refuses_other_replies():
    row = Likelihood("a", 1, nll=1.0, n_tokens=2, n_bytes=6, n_chars=3)
    assert tm.mutual_information([row], [row]) == [0.0]
    assert math.isnan(tm.mutual_information([replace(row, n_tokens=0)], [row])[0])
    with pytest.raises(UserError, match="not the same"):
        tm.mutual_information([row], [replace(row, n_chars=4)])
    with pytest.raises(UserError, match="1 replies with a history and 0 without"):
        tm.mutual_information([row], [])
    turn = AssistantTurn("a", 3, (Turn("user", "س"),), Turn("assistant", "ج"))
    assert tm.without_history([turn])[0].history == (Turn("user", ""),)


@settings(max_examples=100, deadline=None)
@given(history=st.lists(TEXT, max_size=3), reply=TEXT)
def test_what_a_text_tells_is_between_0_and_1(history, reply):
    arabic = frozenset(tm.trigrams("الخبز البلدي"))
    for value in (
        tm.copied(history, reply),
        tm.repeated(reply),
        tm.finished(history, reply),
        tm.arabic_letters(reply, arabic),
    ):
        assert 0 <= value <= 1
    assert tm.content_words(reply) <= set(tm.turn_words(reply))
    if len(tm.turn_words(reply)) > 0:
        assert tm.copied([*history, reply], reply) == 1


def test_variety_is_the_mean_over_the_seeds_of_a_model():
    texts = {0: ["قهوة عربية", "قهوة تركية"], 1: ["قهوة عربية", "قهوة عربية"]}
    replies = [Reply("c", 1, "m", seed, t, "stop") for seed, each in texts.items() for t in each]
    table = tm.variety([*replies, Reply("c", 1, "silent", 0, "", "stop")]).set_index("model")
    assert table.distinct_1["m"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert table.distinct_2["m"] == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert table.n_words["m"] == 2
    silent = table.loc["silent"]
    assert silent[["distinct_1", "distinct_2", "self_bleu"]].isna().all() and silent.n_words == 0
