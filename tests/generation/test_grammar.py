"The grammar over its whole data, and against the parser, which is of its own floor"

import random, re

import pytest

from arabic_dialog.generation.embedded import DEFECTS, STYLES, add_defect, render_completion
from arabic_dialog.generation.grammar import Grammar
from arabic_dialog.generation.parsing import ParseError, parse_conversation

LEFT_OVER = re.compile(r"[{}\[\]|_]|  | [،؛؟.:]|[.،]{2}")


@pytest.fixture(scope="module")
def grammar():
    return Grammar.load()


def conversations(grammar, n):
    pairs = [(t, c) for t in grammar.lexica for c in grammar.countries]
    for i in range(n):
        yield grammar.dialogue(*pairs[i * 37 % len(pairs)], random.Random(i))


def test_text_is_well_formed(grammar):
    for turns in conversations(grammar, 4000):
        assert [t.speaker for t in turns] == ["user", "assistant"] * (len(turns) // 2)
        for t in turns:
            assert t.text and not LEFT_OVER.search(t.text), t.text


def test_the_article_is_attached_once(grammar):
    for c, place in grammar.countries.items():
        for slot, v in place.values.items():
            assert not v.startswith(("لال", "الال")), (c, slot, v)


def test_every_pair_has_a_conversation_of_every_length(grammar):
    for i, (t, c) in enumerate((t, c) for t in grammar.lexica for c in grammar.countries):
        n = 2 * (1 + i % 6)
        assert len(grammar.dialogue(t, c, random.Random(i), n)) == n
        assert grammar.statement(t, c, random.Random(i))


def test_no_sentence_of_the_assistant_is_said_twice(grammar):
    twice = 0
    for turns in conversations(grammar, 2000):
        said = [
            s for t in turns[1::2] for s in re.split(r"(?<=[.؟]) ", t.text) if len(s.split()) > 5
        ]
        twice += len(said) != len(set(said))
    assert twice <= 4


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_read_back(grammar, style):
    for turns in conversations(grammar, 300):
        assert parse_conversation(render_completion(turns, style)) == turns


@pytest.mark.parametrize("kind", DEFECTS)
def test_defects_never_crash_the_parser_and_change_the_text(grammar, kind):
    rng, caught = random.Random(0), 0
    for turns in conversations(grammar, 300):
        text = render_completion(turns, None, rng)
        bad = add_defect(text, rng, kind)
        assert bad != text
        try:
            caught += parse_conversation(bad) != turns
        except ParseError:
            caught += 1
    assert caught > 290 if kind != "preamble" else caught == 0
