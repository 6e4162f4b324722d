"What models write, by hand and by the hundred thousand: a conversation or a ParseError, in time"

import json, pickle, random, time, tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.core.files import data_path, load_jsonl
from arabic_dialog.core.records import Completion, Conversation, SPEAKERS, Turn
from arabic_dialog.generation.embedded import render_completion
from arabic_dialog.generation.grammar import Grammar
from arabic_dialog.generation.marks import ROLE_NAMES
from arabic_dialog.generation.parsing import (
    MAX_LENGTH,
    PARSE_RULES,
    ParseError,
    parse_conversation,
)

CASES = tomllib.loads((Path(__file__).parent / "parsing_cases.toml").read_text(encoding="utf-8"))[
    "case"
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_what_models_write(case):
    if "turns" in case:
        assert [f"{t.speaker[0]}: {t.text}" for t in parse_conversation(case["text"])] == case[
            "turns"
        ]
    else:
        with pytest.raises(ParseError) as e:
            parse_conversation(case["text"])
        assert e.value.rule == case["rule"] and e.value.detail


def test_every_rule_has_a_case():
    assert {c["rule"] for c in CASES if "rule" in c} == PARSE_RULES.keys() - {"too_long"} and len(
        {c["name"] for c in CASES}
    ) == len(CASES) >= 70


def test_the_sample_is_read_as_it_was():
    made = {
        c.id: c.turns for c in load_jsonl(data_path("sample") / "conversations.jsonl", Conversation)
    }
    for c in load_jsonl(data_path("sample") / "completions.jsonl", Completion):
        assert parse_conversation(c.text) == made[c.scenario_id]


def test_what_the_generator_writes_without_defects_is_read_as_it_was_made():
    grammar = Grammar.load()
    pairs = [(t, c) for t in grammar.lexica for c in grammar.countries]
    for i in range(3000):
        rng = random.Random(i)
        turns = grammar.dialogue(*pairs[i * 37 % len(pairs)], rng)
        assert parse_conversation(render_completion(turns, None, rng)) == turns


def test_the_place_is_that_in_the_completion_as_given():
    text = "\u200f\u200fالمستخدم: مر\u200bحبا\n\u200fالمساعد:"
    with pytest.raises(ParseError) as e:
        parse_conversation(text)
    assert text[e.value.position :] == "المساعد:" and f"character {e.value.position}" in str(
        e.value
    )


def test_an_error_travels_between_processes():
    with pytest.raises(ParseError) as e:
        parse_conversation("المستخدم: مرحبا")
    again = pickle.loads(pickle.dumps(e.value))
    assert (again.rule, again.detail, again.position, str(again)) == (
        e.value.rule,
        e.value.detail,
        e.value.position,
        str(e.value),
    )


# Sentences with names in them, but without what opens or ends a turn:
# no colon, no sign of a frame, a rule or JSON
TEXT = st.lists(
    st.sampled_from(
        "نعم لا؟ شكرًا، المساعد المستخدم مرحبًا! «البيت» AI x7 ٣ 12. س ج؛ (هنا) قديم… user".split()
    ),
    min_size=1,
    max_size=7,
).map(lambda ws: " ".join(["هنا", *ws]))  # a name alone on a line is a mark
TURNS = st.lists(TEXT, min_size=2, max_size=6).map(
    lambda ts: tuple(Turn(SPEAKERS[i % 2], t) for i, t in enumerate(ts))
)
PAIRS = [
    (u, a)
    for plain in (0, 1)
    for u in ROLE_NAMES["user"][plain]
    for a in ROLE_NAMES["assistant"][plain]
]
LINES = (
    "{r}: {t}",
    "{r} : {t}",
    "**{r}:** {t}",
    "**{r}**: {t}",
    "{i}. {r}: {t}",
    "{i}) **{r}**： {t}",
    "- {r}: {t}",
    "### {r}:\n{t}\n",
    "الدور {i}: {r}: {t}",
    "| {r}: {t} |",
    "{r}:\n{t}",
)
FRAMES = (
    "[|{H}|] {t}",
    "<|{r}|>{t}</s>",
    "<|im_start|>{r}\n{t}<|im_end|>\n",
    "<start_of_turn>{r}\n{t}<end_of_turn>\n",
    "<{r}>{t}</{r}>",
    "<|start_header_id|>{r}<|end_header_id|>\n\n{t}<|eot_id|>",
)


@settings(max_examples=250, deadline=None)
@given(
    TURNS,
    st.sampled_from(LINES),
    st.sampled_from(PAIRS),
    st.sampled_from(("\n", "\n\n", "\r\n", "\n---\n")),
)
def test_lines_are_read_back(turns, form, names, between):
    text = between.join(
        form.format(r=names[SPEAKERS.index(t.speaker)], t=t.text, i=i)
        for i, t in enumerate(turns, 1)
    )
    assert parse_conversation(text) == turns


@settings(max_examples=200, deadline=None)
@given(TURNS, st.sampled_from(FRAMES))
def test_frames_are_read_back(turns, form):
    assert (
        parse_conversation(
            "".join(
                form.format(
                    r=t.speaker, H={"user": "Human", "assistant": "AI"}[t.speaker], t=t.text
                )
                for t in turns
            )
        )
        == turns
    )


# Anything at all may stand in strict JSON, but for what is trimmed
ANY = (
    st.text(
        st.characters(
            exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp"), exclude_characters="-=*_~`#|>•"
        ),
        min_size=1,
        max_size=40,
    )
    .map(str.strip)
    .filter(bool)
)
KEYS = st.sampled_from(
    (
        ("role", "content"),
        ("from", "value"),
        ("speaker", "text"),
        ("المتحدث", "النص"),
        ("الدور", "الكلام"),
    )
)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(ANY, min_size=2, max_size=8),
    KEYS,
    st.booleans(),
    st.booleans(),
    st.sampled_from((None, 1)),
    st.sampled_from(("list", "lines", "messages", "names", "fence")),
)
def test_json_is_read_back(texts, keys, first, ascii, indent, form):
    turns = tuple(Turn(SPEAKERS[i % 2], t) for i, t in enumerate(texts))
    rows = [dict([(keys[0], t.speaker), (keys[1], t.text)][:: 1 if first else -1]) for t in turns]

    def dump(x):
        return json.dumps(x, ensure_ascii=ascii, indent=indent)

    text = {
        "list": lambda: dump(rows),
        "lines": lambda: "\n".join(map(dump, rows)),
        "messages": lambda: dump({"n": len(rows), "messages": rows}),
        "names": lambda: dump([{t.speaker: t.text} for t in turns]),
        "fence": lambda: f"إليك المحادثة:\n```json\n{dump(rows)}\n```\n",
    }[form]()
    assert parse_conversation(text) == turns


@settings(max_examples=300, deadline=None)
@given(TURNS, st.sampled_from(("comma", "single", "bare", "end", "commas")))
def test_broken_json_is_read_back(turns, fault):
    text = json.dumps([{"role": t.speaker, "content": t.text} for t in turns], ensure_ascii=False)
    text = {
        "comma": text.replace("}", ",}").replace("]", ",]"),
        "single": text.replace('"', "'"),
        "end": text[:-3],
        "bare": text.replace('"role"', "role").replace('"content"', "content"),
        "commas": text.replace("}, {", "}\n{").replace('", "', '" "'),
    }[fault]
    assert parse_conversation(text) == turns


def sound(text):
    "Whether `text` is a conversation; what is read from it is one"
    try:
        turns = parse_conversation(text)
    except ParseError as e:
        assert e.rule in PARSE_RULES and e.detail and 0 <= e.position <= len(text)
        return False
    assert len(turns) >= 2
    for t in turns:
        assert t.speaker in SPEAKERS and t.text == t.text.strip() and t.text
        t.text.encode()
    return True


@settings(max_examples=500, deadline=None)
@given(
    st.text(st.characters(), max_size=200)
    | st.lists(
        st.sampled_from(
            (
                "المستخدم",
                "المساعد",
                "س",
                "AI",
                ":",
                "\n",
                " ",
                "|",
                "**",
                "{",
                "}",
                "[",
                "]",
                '"',
                "'",
                ",",
                "role",
                "content",
                "user",
                "<|",
                "|>",
                "</s>",
                "[INST]",
                "\\",
                "\\u",
                "\ud800",
                "\0",
                "٣",
                "-",
                "#",
                "؟",
                "```",
                "نعم",
            )
        ),
        max_size=60,
    ).map("".join)
)
def test_nothing_else_is_raised(text):
    sound(text)


def test_a_hundred_thousand_spoilt_completions():
    "Pieces of real completions and of the cases, cut, doubled, joined and strewn with signs"
    rng = random.Random(13)
    whole = [c["text"] for c in CASES] + [
        c.text[:600] for c in load_jsonl(data_path("sample") / "completions.jsonl", Completion)
    ]
    bits = [
        "المستخدم:",
        "المساعد:",
        "User:",
        "AI:",
        ":",
        "：",
        "\n",
        "\n\n",
        "\r",
        "\u2028",
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        "“",
        ",",
        "\\",
        "\\u12",
        "\\ud83d",
        "<|user|>",
        "</s>",
        "<|im_start|>",
        "[INST]",
        "[|AI|]",
        "**",
        "__",
        "|",
        "---",
        "```",
        "- ",
        "\u200f",
        "\0",
        "\ud83d",
        "\udfb5",
        "\ufffd",
        "٣",
        "(",
        ")",
        '"role":',
        '"content":',
        "ملاحظة",
        "المحادثة 2",
        "\t",
        "؟",
        "\U0001f44b",
    ]
    n_read = 0
    for _ in range(100_000):
        text = rng.choice(whole)
        if len(text) > 160:
            start = rng.randrange(len(text) - 120)
            text = text[start if rng.random() < 0.5 else 0 : start + 120]
        for _ in range(rng.randrange(4)):
            i, j = rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                text = text[:i] + rng.choice(bits) + text[i:]
            elif kind == 1:
                text = text[:i] + text[min(len(text), i + rng.randrange(1, 12)) :]
            elif kind == 2:
                text = text[:i] + rng.choice(bits) + text[min(i, j) : max(i, j)]
            else:
                text = text[:i] + rng.choice(whole)[:40] + text[i:]
        n_read += sound(text)
    assert 10_000 < n_read < 90_000  # both ways out were taken often


HOSTILE = [
    "[",
    "{",
    '["',
    '{"',
    '{"a":',
    '"',
    "\\",
    "'",
    "“",
    "a:",
    ": ",
    "س:",
    "س: a\n",
    "المستخدم: a\nالمساعد: b\n",
    "المستخدم: ",
    "\n",
    "- a؟\n",
    "|",
    "*",
    "<",
    "<user>",
    "</s>",
    "[INST]",
    "\ud800",
    "\0",
    "\u200f",
    "(",
    "1.",
    "المستخدم (",
    ". المساعد: a ",
    "{role:'",
    '"a:',
    'a"b:"',
    ',"a":',
    "\n\nآمل ",
    "\nملاحظة",
    "\nملاحظة:",
    "<think>",
    "</think>",
    "```\n",
    "[المستخدم",
    "“a”:",
    '\n"a":"',
    "المستخدم: a المساعد: ",
    '{"role":"user","content":"x',
    "</think>a ",
    "<think>a</think>b</think>",
    "◁/think▷a ",
    "[/THINK]",
    "Thinking...\n",
    "<|channel|>analysis<|message|>",
    "<details type='reasoning'>",
    "<details><summary>thought",
    "<br>",
    "&amp;",
    "\\n",
    '\\"role\\":',
    "~~~\n",
    "```\nالمستخدم: a\nالمساعد: b\n```\n",
    "المستخدم: a\nالمساعد: b\nحوار بين أ عن ب:\n",
    "المستخدم: …\nالمساعد: …\n",
    "<|im_start|>user\n",
    "[|Human|] و[|AI|] ",
    "\x1b[",
]


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_time_is_bounded(unit):
    for head in ("", "المستخدم: a\nالمساعد: "):
        text = head + unit * ((MAX_LENGTH - len(head)) // len(unit))
        start = time.process_time()
        sound(text)
        assert time.process_time() - start < 2, "a hundred thousand characters"


def test_a_megabyte_is_refused_at_once():
    for unit in ("[", "المستخدم: a\nالمساعد: b\n"):
        start = time.process_time()
        with pytest.raises(ParseError, match="too_long"):
            parse_conversation(unit * (1_000_000 // len(unit)))
        assert time.process_time() - start < 0.1
