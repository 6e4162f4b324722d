"Replies that end and fail all the same: values that can be counted by hand"

import math

import numpy as np
import pytest

from arabic_dialog.core.records import Conversation, Scenario, Turn, UserError
from arabic_dialog.metrics.failings import TrainingReplies, failings, find_openers, is_opener
from arabic_dialog.metrics.failings import is_short, loops


def conversation(n, *texts):
    turns = tuple(Turn(("user", "assistant")[i % 2], t) for i, t in enumerate(texts))
    return Conversation(f"c{n}", Scenario.of("bread", "EG", n), turns, "hand-written")


TRAINING = TrainingReplies.of(
    [conversation(n, "ما الخبز؟", f"سؤال عملي. الجواب {n}.", "شكرًا.", "العفو.") for n in range(6)]
)


def test_short_counts_only_turns_whose_true_reply_is_longer():
    long, short = "هذه جملة من خمس كلمات.", "على الرحب والسعة."
    assert is_short("", long) == is_short("كلمة", long) == is_short("ثلاث كلمات فقط", long) == 1
    assert is_short("هذه أربع كلمات هنا", long) == 0
    assert math.isnan(is_short("كلمة", short)) and math.isnan(is_short("كلمة", ""))


def test_an_opener_begins_many_replies_and_ends_none():
    assert TRAINING.openers == {"سوال عملي"}
    assert find_openers(["سؤال عملي. نعم."] * 4) == frozenset()  # too few
    assert find_openers([]) == frozenset()
    mostly = ["مرحبًا. نعم."] * 18 + ["مرحبًا."] * 2
    assert find_openers(mostly) == {"مرحبا"} and find_openers([*mostly, "مرحبًا."]) == frozenset()
    assert find_openers(["كلمة " * 9 + ". نعم."] * 9) == frozenset()  # too long
    rare = ["سؤال عملي. نعم."] * 9 + [f"جملة رقم {n}." for n in range(9990)]
    assert find_openers(rare) == frozenset() and find_openers(["سؤال عملي. نعم.", *rare])


def test_only_an_opener_in_any_writing():
    openers = frozenset({"سوال عملي", "اهلا بك"})
    for reply in ("سؤال عملي.", "سُؤالٌ عمليّ", "أهلًا بك! سؤال عملي."):
        assert is_opener(reply, openers) == 1
    for reply in ("", "...", "سؤال", "سؤال عملي. نعم.", "سؤال عملي جدًا."):
        assert is_opener(reply, openers) == 0


def test_loops_are_words_said_again():
    assert loops("في مصر في مصر في مصر") == loops("نعم نعم") == 1
    assert loops("") == loops("نعم") == loops("يختلف الخبز من بيت إلى بيت.") == 0


def test_all_four_as_a_measure():
    pairs = [((), text) for text in ("سُؤال عمليّ", "العفو", "سؤال عملي. الجواب 3!", "لا لا لا لا")]
    values = failings(TRAINING)(pairs, ["هذه جملة من خمس كلمات."] * 3 + ["نعم."])
    np.testing.assert_array_equal(values["short"], [1, 1, 0, math.nan])
    assert values["opener"] == [1, 0, 0, 0] and values["loop"] == [0, 0, 0, 1]
    assert values["verbatim"] == [0, 1, 1, 0]
    assert set(failings()(pairs, ["نعم."] * 4)) == {"short", "loop"}
    with pytest.raises(UserError, match="there are 1 references for 4 replies"):
        failings()(pairs, ["نعم."])


def test_a_reply_without_words_is_no_copy():
    silent = TrainingReplies.of([conversation(0, "ما؟", "...")])
    assert silent.texts == frozenset() and silent.has("") == 0
