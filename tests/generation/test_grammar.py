"The grammar over its whole data, and against the parser, which is of its own floor"

import random, re, shutil
from collections import Counter

import pytest

from arabic_dialog.core.arabic import mentions
from arabic_dialog.core.files import data_path
from arabic_dialog.core.records import UserError
from arabic_dialog.generation.embedded import DEFECTS, STYLES, add_defect, render_completion
from arabic_dialog.generation.grammar import Grammar, next_kind
from arabic_dialog.generation.parsing import ParseError, parse_conversation
from arabic_dialog.generation.patterns import LACKS

LEFT_OVER = re.compile(r"[{}\[\]<>@|_]|  | [،؛؟.:]|[.،]{2}")


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


# ---- a grammar of one's own: changes in the files


def changed(folder, **changes):
    "The grammar with texts put in place of others, or added at the end, in copies of its files"
    shutil.copytree(data_path("grammar"), folder, dirs_exist_ok=True)
    for name, (old, new) in changes.items():
        file = folder / ("dialogue.toml" if name == "dialogue" else f"topics/{name}.toml")
        text = file.read_text(encoding="utf-8")
        assert old in text
        text = text.replace(old, new, 1) if old else f"{text}\n{new}\n"
        file.write_text(text, encoding="utf-8")
    return Grammar.load(folder)


RARE = ("correction", "misunderstanding", "change", "unsure")
PAIR = '[[{table}]]\nkind = "{kind}"\nq = ["{q}"]\na = ["{a}"]\n'
OWN_PAIRS = "\n".join(
    PAIR.format(
        table="category.pair", kind=kind, q=f"سؤال {kind}؟", a=f"جواب {kind} {{other_topic}}."
    )
    for kind in RARE
)


def test_rare_kinds_come_rarely_and_once(tmp_path):
    grammar = changed(tmp_path, sport=("", OWN_PAIRS))
    talks = 4000
    counts = Counter()
    for i in range(talks):
        turns = grammar.dialogue("chess", "EG", random.Random(i))
        general = grammar.lexica["chess"].sets
        questions = [t.text for t in turns[::2]]
        for kind in RARE:
            asked = {p.text for e in general[f"any_{kind}"].items for p in e.questions}
            said = sum(any(q.endswith(text) for text in asked) for q in questions)
            assert said <= 1
            counts[kind] += said
    assert all(0.01 < counts[kind] / talks < 0.10 for kind in RARE), counts


def test_another_topic_is_of_the_same_category_and_to_be_had(grammar):
    for topic, lexicon in grammar.lexica.items():
        assert topic not in lexicon.others and lexicon.others
        for other in lexicon.others:
            assert topic in grammar.lexica[other].others
    seen = {grammar.talk("bread", "EG", random.Random(i)).values["other_topic"] for i in range(300)}
    assert seen == {grammar.lexica[other].name for other in grammar.lexica["bread"].others}
    for place in grammar.countries:
        talk = grammar.talk(
            "camping" if "camping" in grammar.lexica else "hotels", place, random.Random(1)
        )
        lacking = [x.name for x in grammar.lexica.values() if x.lacking(grammar.countries[place])]
        assert talk.values["other_topic"] not in lacking


def test_sentences_of_a_category_join_the_general_ones(tmp_path, grammar):
    own = '[category]\nanchors = ["@coast هكذا {topic} في {country} قرب {sea}."]\ntips = ["جرب {topic} في {country}."]'
    wider = changed(tmp_path, sport=("[football]", f"{own}\n[football]"))
    for topic, more in (("chess", 1), ("bread", 0)):
        for name in ("any_anchors", "any_tips"):
            before, after = (g.lexica[topic].sets[name].items for g in (grammar, wider))
            assert len(after) == len(before) + more
    near, far = (wider.talk("chess", code, random.Random(0)) for code in ("EG", "NP"))
    assert len(near.fitting("any_anchors")) == len(far.fitting("any_anchors")) + 1
