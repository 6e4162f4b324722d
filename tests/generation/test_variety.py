"Variety: names are taken out, patterns are counted, and what is said of them is true"

import re

import pytest

from arabic_dialog.core.files import find_root, stream
from arabic_dialog.core.records import Conversation, Scenario, Turn
from arabic_dialog.core.settings import load_profile
from arabic_dialog.generation.grammar import Grammar
from arabic_dialog.generation.variety import MaskedNames, load_names, measure_variety, pattern_of
from arabic_dialog.generation.variety import purpose_words, sentences, variety_words


def conversation(n, *texts, topic="bread", country="EG"):
    turns = tuple(Turn(("user", "assistant")[i % 2], t) for i, t in enumerate(texts))
    return Conversation(f"c{n}", Scenario.of(topic, country, n), turns, "hand-written")


@pytest.fixture(scope="module")
def names():
    return load_names(load_profile("offline"), find_root())


def test_sentences_end_at_marks_and_lines():
    assert sentences("نعم. أتريد مثالًا؟ هاك!\nانتهى") == ["نعم.", "أتريد مثالًا؟", "هاك!", "انتهى"]
    assert sentences("3.5 كيلو") == ["3.5 كيلو"] and sentences(" \n ") == []


@pytest.mark.parametrize(
    "country, text, pattern",
    [
        ("EG", "يحب المصريون الخبز في مصر.", "يحب C T في C."),
        ("EG", "ولمصر خبز، وللقاهرة خبز غيره.", "C T، C T غيره."),
        ("JO", "سعر الخبز في الأردن 25 قرشًا.", "سعر T في C N قرشًا."),
        ("JO", "أما في مصر فهو ٢٫٥.", "أما في C فهو N."),
    ],
)
def test_names_and_numbers_are_taken_out(names, country, text, pattern):
    assert pattern_of(text, *names.of(Scenario.of("bread", country))) == pattern


def test_the_counts_by_hand(names):
    talks = [
        conversation(0, "ما الخبز في مصر؟", "كثير. الخبز في مصر كثير."),
        conversation(1, "ما الخبز في الأردن؟", "كثير. الخبز في الأردن كثير.", country="JO"),
        conversation(2, "ما الخبز في مصر؟", "كثير. الخبز في مصر كثير."),
    ]
    variety = measure_variety(talks, names)
    assert (variety.conversations, variety.sentences, variety.patterns) == (3, 9, 3)
    assert variety.commonest_share == 1 and variety.near_duplicates == 1 / 3
    many = [conversation(n, "سؤال؟", "كلمة " * (n + 1)) for n in range(400)]
    variety = measure_variety(many, names)
    assert variety.patterns == 401 and variety.commonest_share == (400 + 199) / 800


def test_data_of_ones_own_need_no_lists():
    talks = [conversation(n, f"ما {n}؟", "في Oz نعم.", topic="tea", country="Oz") for n in range(3)]
    assert measure_variety(talks, MaskedNames()).patterns == 2
    nothing = measure_variety([], MaskedNames())
    assert nothing.sentences == 0 and nothing.commonest_share == 0
    talks = [conversation(0, "ما؟", "نعم.", topic="", country="")]
    assert measure_variety(talks, MaskedNames()).patterns == 2


def test_what_data_are_for_is_said_of_the_grammar_alone():
    variety = measure_variety([conversation(0, "ما؟", "نعم.")])
    assert "not for training a model that people will use" in purpose_words("embedded")
    assert purpose_words("transformers") == ""
    assert purpose_words("openai", variety) == variety_words(variety)
    assert "its 2 sentences have 2 patterns" in purpose_words("embedded", variety)


def test_the_readme_says_how_varied_the_grammar_is(names):
    grammar, root = Grammar.load(), find_root()

    def talks():
        for topic in grammar.lexica:
            for country in grammar.countries:
                rng = stream(0, "variety", topic, country)
                yield conversation(0, *(t.text for t in grammar.dialogue(topic, country, rng)),
                                   topic=topic, country=country)  # fmt: skip

    variety = measure_variety(talks(), names)
    text = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    (said,) = re.findall(r"the 200 commonest sentences make (\d+) % of all", text)
    assert 100 * variety.commonest_share == pytest.approx(int(said), abs=1.5)
    assert variety.near_duplicates < 0.01
