"""What models write beside the conversation, in every mark and place: taken away and recorded, or
refused by name; and what people write stays. ARABIC_DIALOG_FUZZ=20000 tries more spoilt texts."""

import json
import os
import random
import re
import tomllib
from html import escape
from pathlib import Path

import pytest

from arabic_dialog.core.arabic import fold, isolate, normalise, strip_bidi
from arabic_dialog.core.files import load_csv, to_json
from arabic_dialog.core.records import SPEAKERS, Completion, Sampling, Scenario
from arabic_dialog.generation.checking import Gate, check
from arabic_dialog.generation.cleaning import REMOVALS, leftover
from arabic_dialog.generation.parsing import PARSE_RULES, ParseError, read_completion
from arabic_dialog.generation.quality import RULES, Limits

FAMILIES = tomllib.loads(
    (Path(__file__).parent / "completions_by_family.toml").read_text(encoding="utf-8")
)["case"]
TURNS = (
    "u: كيف أحضّر الكشري في البيت؟",
    "a: اسلق العدس نصف نضج، ثم أضف إليه الأرز والكمون.",
    "u: وكم يحتاج من الوقت؟",
    "a: نصف ساعة على نار هادئة.",
)
NAMES = {"u": "المستخدم", "a": "المساعد"}
LINES = [f"{NAMES[turn[0]]}{turn[1:]}" for turn in TURNS]
TALK = "\n".join(LINES)
DRAFT = "سأكتب مسودة:\nالمستخدم: سؤال أول؟\nالمساعد: جواب أول.\nهذا يكفي."


def read(text, prompt=""):
    "The turns of a completion, as TURNS has them"
    parsed = read_completion(text, prompt)
    return tuple(f"{turn.speaker[0]}: {turn.text}" for turn in parsed.turns)


def refused(text):
    "The rule that refuses a completion"
    with pytest.raises(ParseError) as error:
        read_completion(text)
    return error.value.rule


@pytest.mark.parametrize("case", FAMILIES, ids=lambda c: f"{c['family']}: {c['name']}")
def test_what_families_of_models_write(case):
    if "rule" in case:
        assert refused(case["text"]) == case["rule"]
        return
    assert list(read(case["text"])) == case["turns"]
    kinds = [removal.kind for removal in read_completion(case["text"]).removed]
    assert sorted(kinds) == sorted(case["removed"])


def test_there_are_forty_completions_of_six_families():
    assert len(FAMILIES) >= 40 and len({case["family"] for case in FAMILIES}) >= 6


PAIRS = [
    *(
        (f"<{name}>", f"</{name}>")
        for name in "think thinking thought reasoning reflection scratchpad seed:think Think "
        "THINKING antThinking chain_of_thought تفكير".split()
    ),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("＜think＞", "＜/think＞"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("<think duration='3'>", "</think>"),
    ("<think>", "</thinking>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
]
TAGS = [pair for pair in PAIRS if "channel" not in pair[0]]


@pytest.mark.parametrize("opens, closes", PAIRS)
@pytest.mark.parametrize("between", ("", "\n", "\n\nإليك المحادثة:\n"))
def test_a_thought_at_the_head(opens, closes, between):
    text = f"{opens}\n{DRAFT}\n{closes}{between}{TALK}"
    assert read(text) == TURNS
    (thought,) = (r for r in read_completion(text).removed if r.kind == "thought")
    assert "جواب أول" in thought.text and text[thought.position :].startswith(opens)


@pytest.mark.parametrize("opens, closes", PAIRS)
def test_a_thought_in_each_turn(opens, closes):
    lines = [line.replace("المساعد: ", f"المساعد: {opens}أفكر: كيف؟{closes} ") for line in LINES]
    assert read("\n".join(lines)) == TURNS


@pytest.mark.parametrize("opens, closes", PAIRS)
def test_a_thought_between_turns_and_behind_them(opens, closes):
    thought = f"\n{opens}\nأفكر الآن.\n{closes}\n"
    assert read(thought.join(LINES)) == read(TALK + thought) == TURNS


@pytest.mark.parametrize("opens, closes", TAGS)
def test_thoughts_within_thoughts(opens, closes):
    assert read(f"{opens}أ{opens}ب\n{DRAFT}{closes}ج{closes}\n{TALK}") == TURNS
    assert read(f"{opens}\n{opens}\n{DRAFT}\n{closes}\n{TALK}") == TURNS


@pytest.mark.parametrize("opens, closes", TAGS)
def test_a_closing_mark_alone(opens, closes):
    assert read(f"{DRAFT}\n{closes}\n{TALK}") == TURNS
    assert read(f"{closes}\n{TALK}") == TURNS
    assert read(f"{TALK}\n{closes}") == read(f"{TALK}{closes}\n") == TURNS
    lines = [line.replace("المساعد: ", f"المساعد: تحية؟ {closes} ") for line in LINES]
    assert read("\n".join(lines)) == TURNS


@pytest.mark.parametrize("opens, closes", TAGS)
def test_a_thought_that_never_ends(opens, closes):
    assert refused(f"{opens}\n{DRAFT}\n{TALK}") == "unclosed_thought"
    assert refused(f"{LINES[0]}\n{opens} ثم\n" + "\n".join(LINES[1:])) == "unclosed_thought"
    assert read(f"{TALK}\n{opens}\nهل هذا كاف؟ أظن ذلك") == TURNS


def test_nothing_but_thoughts():
    with pytest.raises(ParseError, match="empty: .*no text beside [0-9]+ characters of thoughts"):
        read_completion("<think>مسودة.</think> ")


@pytest.mark.parametrize(
    "end", (r"\n", r"\\n", r"\r\n", "<br>", "<br/>", "<BR />", "&lt;br&gt;", "↵")
)
def test_all_turns_on_one_line(end):
    assert read(end.join(LINES)) == read(f"إليك المحادثة:{end}{end.join(LINES)}{end}") == TURNS


@pytest.mark.parametrize(
    "form",
    (
        "<p>{n}: {t}</p>",
        "<p><b>{n}:</b> {t}</p>",
        "<div class='turn'><strong>{n}</strong>: {t}</div>",
        "<li>{n}: {t}</li>",
        "<tr><td>{n}</td><td>{t}</td></tr>",
        "<h3>{n}</h3><p>{t}</p>",
        '<p dir="rtl"><span style="color:red">{n}:</span> {t}<br></p>\n',
        "{n}: {t}<br>\n",
        "<b>{n}:</b> {t}\n",
    ),
)
def test_pages_of_html(form):
    rows = [(NAMES[turn[0]], turn[3:]) for turn in TURNS]
    page = "".join(form.format(n=n, t=t) for n, t in rows)
    assert read(page) == read(f"<html><body>{page}</body></html>") == TURNS
    assert any(r.kind == "markup" for r in read_completion(page).removed)


def test_entities():
    turns = ('u: ما معنى "السبيل"؟', "a: ماء & ثواب، <هكذا>.")
    lines = [f"{NAMES[t[0]]}: {escape(t[3:])}" for t in turns]
    assert read("\n".join(lines)) == turns
    assert read("\n".join(lines).replace("&", "&amp;")) == turns
    assert read("\n".join(LINES).replace(":", "&#58;")) == TURNS


@pytest.mark.parametrize("colon", ":：∶﹕︰꞉")
def test_colons_of_every_kind(colon):
    assert read("\n".join(line.replace(":", colon, 1) for line in LINES)) == TURNS


ROWS = [{"role": {"u": "user", "a": "assistant"}[turn[0]], "content": turn[3:]} for turn in TURNS]


@pytest.mark.parametrize("ascii", (True, False))
@pytest.mark.parametrize(
    "wrap",
    (
        lambda rows, dump: dump(rows),
        lambda rows, dump: dump({"messages": rows}),
        lambda rows, dump: dump(dump(rows)),
        lambda rows, dump: dump({"output": dump({"messages": rows})}),
        lambda rows, dump: dump({"text": dump(dump(rows))}),
        lambda rows, dump: dump({"response": TALK}),
        lambda rows, dump: dump({"response": TALK.replace("\n", r"\n")}),
        lambda rows, dump: f"<think>{dump(rows[:1])}</think>\n```json\n{dump(rows)}\n```",
        lambda rows, dump: dump(
            [row | {"content": f"<think>أ</think>{row['content']}"} for row in rows]
        ),
        lambda rows, dump: escape(dump(rows)),
        lambda rows, dump: dump(rows).replace('"', r"\""),
    ),
)
def test_json_within_json(wrap, ascii):
    def dump(value):
        return json.dumps(value, ensure_ascii=ascii)

    assert read(wrap(ROWS, dump)) == TURNS


@pytest.mark.parametrize(
    "head",
    (
        "```\nالمستخدم: [سؤال]\nالمساعد: [جواب]\n```\n",
        "مثال:\n~~~\nالمستخدم: ما اسمك؟\nالمساعد: جيس.\n~~~\n\nوالآن المحادثة:\n",
        '```json\n[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]\n```\n',
        "المستخدم: …\nالمساعد: …\n\n",
        "المستخدم: …\nالمساعد: …\n- لا تكتب مقدمة ولا خاتمة.\n\n",
        "المستخدم: [نص السؤال]\nالمساعد: [نص الجواب]\n\n",
        "الأدوار:\nالمستخدم: شخص يسأل\nالمساعد: من يجيبه\n\nالمحادثة:\n",
        "المستخدم: اكتب محادثة عن الكشري بين مستخدم ومساعد.\nالمساعد: بكل سرور، إليك المحادثة:\n",
        "<|im_start|>system\nاكتب.<|im_end|>\n<|im_start|>user\nاكتب محادثة بين الاثنين:\n"
        "المستخدم: …\nالمساعد: …<|im_end|>\n<|im_start|>assistant\n",
    ),
)
def test_forms_examples_and_echoes_before_the_conversation(head):
    assert read(head + TALK) == TURNS
    removed = read_completion(head + TALK).removed
    assert {r.kind for r in removed} & {"template", "echo"}


def test_the_prompt_once_more():
    head = "اكتب محادثة طبيعية بين مستخدم ومساعد.\nالموضوع: الكشري"
    prompt = f"{head}\nالمستخدم: كذا\nالمساعد: كذا\nابدأ الآن."
    assert read(f"{prompt}\n\n{TALK}", prompt) == TURNS
    assert read(TALK, prompt) == TURNS


def test_a_fence_within_an_answer_stays():
    text = f"{TALK}\nالمستخدم: والوصفة؟\nالمساعد: هذه:\n```\nعدس: كوب\nأرز: كوب\n```"
    assert read(text)[-1] == "a: هذه:\n```\nعدس: كوب\nأرز: كوب\n```"


@pytest.mark.parametrize(
    "heading",
    (
        "حوار بين سائح ومرشد عن المتاحف من 10 أدوار:",
        "محادثة بين أم وابنتها حول السوق من ٨ أدوار:",
        "## المحادثة الثانية",
        "**حوار آخر:**",
        "مثال 2:",
        "Conversation 2",
        "Dialogue between a guide and a tourist about Cairo:",
    ),
)
def test_the_heading_of_a_second_conversation(heading):
    second = "المستخدم: أين المتحف؟\nالمساعد: في الوسط."
    text = f"{TALK}\n{heading}\n{second}"
    assert read(text) == TURNS
    assert {r.kind for r in read_completion(text).removed} == {"heading", "conversation"}


@pytest.mark.parametrize(
    "end", ("[END]", "[/CONVERSATION]", "(انتهت المحادثة)", "---", "</s>", "```")
)
def test_what_ends_a_completion(end):
    assert read(f"{TALK}\n{end}") == read(f"{TALK}\n\n{end}\n") == TURNS


WRITTEN = (
    "اكتب <br> هنا، ثم </p>.",
    "الوسم <b>مهم</b> في HTML.",
    "في بايثون \\n نهاية السطر.",
    "قال تعالى: ﴿وَقُل رَّبِّ زِدْنِي عِلْمًا﴾ [طه: 114].",
    "افتح https://example.org/a?b=1&copy=2#c الساعة 10:30.",
    "المسار C:\\new\\table على ويندوز.",
    "س < ص و AT&T و R&D.",
    "(ضحك) [تصفيق] «نعم»: هذا هو.",
    "می‌روم 👩‍🍳 👨‍👩‍👧 ❤️‍🔥 👍🏽 🇲🇦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ☺️",
    "أفكر... ثم أقرر.",
    "حوار بين الثقافات: عنوان كتاب.",
)


@pytest.mark.parametrize("text", WRITTEN)
def test_what_people_write_stays(text):
    lines = [LINES[0], LINES[1], f"المستخدم: {text}", f"المساعد: {text} نعم.", *LINES[2:]]
    turns = read("\n".join(lines))
    assert turns[2] == f"u: {text}" and turns[3] == f"a: {text} نعم." and len(turns) == 6


def test_joiners_stay_wherever_direction_marks_go():
    text = "می‌روم 👩‍🍳 ❤️‍🔥"
    assert strip_bidi(f"\u200f{text}\u202c") == text
    assert isolate(f"\u2067{text}") == f"\u2068{text}\u2069"
    assert "\u200c" in fold(text) and "\u200d" in fold(text)
    assert normalise("می‌روم") == normalise("میروم")


@pytest.mark.parametrize(
    "mark",
    (
        "</think>",
        "<|im_start|>",
        "[INST]",
        "[|Human|]",
        "◁/think▷",
        "<|custom|>",
        "[/THINK]",
        "<s>",
    ),
)
def test_a_mark_that_is_spoken_of_is_refused_not_cut(mark):
    text = f"{TALK}\nالمستخدم: ما معنى «{mark}» هنا؟\nالمساعد: علامة."
    try:
        assert not any(map(leftover, read(text)))
    except ParseError as error:
        assert error.rule in ("leftover_mark", "unknown_speaker", "unclosed_thought", "empty_turn")


@pytest.mark.parametrize(
    "text, rule, words",
    (
        ("أحمد: مرحبا\nسارة: أهلا\nأحمد: نعم\nسارة: لا", "unknown_speaker", "«احمد» and «ساره»"),
        ("[b]x المستخدم: مرحبا\n[b]x المساعد: أهلا\n" * 2, "unknown_speaker", "among other words"),
        (f"<think>\n{TALK}", "unclosed_thought", "'<think>"),
        (f"{TALK} <|custom|>", "leftover_mark", "turn 4, by the assistant, holds '<|custom|>'"),
        ("<think>أ</think>", "empty", "thoughts"),
    ),
)
def test_a_refusal_says_what_was_seen(text, rule, words):
    with pytest.raises(ParseError) as error:
        read_completion(text)
    assert error.value.rule == rule and words in error.value.detail


def test_what_was_taken_away_is_counted_and_written_beside_what_was_kept(tmp_path):
    texts = (f"<think>{DRAFT}</think>\n{TALK}", TALK, f"<think>\n{TALK}", f"بالطبع:\n{LINES[0]}")
    scenarios = [Scenario.of("kushari", "EG", i) for i in range(len(texts))]
    completions = [
        Completion(s.id, "m", "", text, "stop", Sampling())
        for s, text in zip(scenarios, texts, strict=True)
    ]
    rules = tuple(rule for rule in RULES if rule.startswith("too_"))
    gate = Gate(Limits(), rules, lambda _: (), lambda _: ())
    lines = [to_json(completion).encode() for completion in completions]
    counts = check(tmp_path, lines, scenarios, gate)
    assert (counts["accepted"], counts["rejected"], counts["cleaned"]) == (2, 2, 1)
    rows = [
        json.loads(line) for line in (tmp_path / "removed.jsonl").read_text("utf-8").splitlines()
    ]
    assert [(row["scenario_id"], row["outcome"]) for row in rows] == [("kushari_EG_0", "accepted")]
    assert (
        rows[0]["removed"][0]["kind"] == "thought" and "جواب أول" in rows[0]["removed"][0]["text"]
    )
    assert [turn["text"] for turn in rows[0]["turns"]] == [turn[3:] for turn in TURNS]
    table = {row["kind"]: row for row in load_csv(tmp_path / "removed.csv")}
    assert table.keys() == REMOVALS.keys()
    assert table["thought"]["completions"] == table["thought"]["accepted"] == "1"
    assert int(table["thought"]["characters"]) == len(f"<think>{DRAFT}</think>")
    assert "جواب أول" in (tmp_path / "removed.html").read_text("utf-8")


def test_the_page_of_what_was_taken_away_runs_nothing_of_a_model(tmp_path):
    text = f"<script>alert(1)</script>\n{TALK}"
    scenario = Scenario.of("kushari", "EG", 0)
    line = to_json(Completion(scenario.id, "m", "", text, "stop", Sampling())).encode()
    check(tmp_path, [line], [scenario], Gate(Limits(), (), lambda _: (), lambda _: ()))
    page = (tmp_path / "removed.html").read_text("utf-8")
    assert "&lt;script&gt;" in page and "<script>" not in page


# --- spoilt texts ---------------------------------------------------------------------------------
INSERTED = [
    *(mark for pair in PAIRS for mark in pair),
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<start_of_turn>",
        "<end_of_turn>",
        "[INST]",
        "[/INST]",
        "</s>",
    ),
    *("<|user|>", "<|assistant|>", "<｜User｜>", "<｜end▁of▁sentence｜>", "[|Human|]", "[|AI|]"),
    *("<|eot_id|>", "<|custom|>", "<seed:bos>user\n", "<|start|>assistant", "<|message|>"),
    *(
        "Thinking...\n",
        "\n...done thinking.\n",
        "<br>",
        "<p>",
        "</p>",
        "&quot;",
        "&lt;",
        r"\n",
        r"\"",
    ),
    *(
        "```\n",
        "~~~",
        "{",
        "}",
        "[",
        "]",
        '"',
        "“",
        ":",
        "∶",
        "：",
        "\n",
        "\r\n",
        "\u2028",
        "\u200d",
    ),
    *("\u200f", "\ufeff", "\0", "\ud83d", "\udc69", "\x1b[2m", "**", "---", "|", "…", "المستخدم:"),
    *("المساعد:", "المحادثة 2", "حوار بين أب وابنه عن كذا:", "ملاحظة:", "<answer>", "</answer>"),
    *("assistantfinal", "analysis", "<details type='reasoning'>", "</details>", "◁", "▷", "<", ">"),
]
MARK = re.compile(
    r"</?(?:\w+:)?(?:think|thinking|thought|reasoning|reflection|scratchpad|antThinking|تفكير)>"
    r"|\[/?(?:THINK|INST)\]|◁/?think▷|<\|\w+\|>|<｜[\w▁]+｜>|\[\|\w+\|\]|</s>"
    r"|<(?:start|end)_of_turn>|\.\.\.done thinking",
    re.I,
)


def spoil(text, chance):
    "A text with characters cut, flipped and doubled, and marks put in"
    for _ in range(chance.randrange(1, 6)):
        i = chance.randrange(len(text) + 1)
        j = min(len(text), i + chance.randrange(1, 40))
        kind = chance.randrange(6)
        if kind == 0:
            text = text[:i] + text[j:]
        elif kind == 1:
            text = text[:i] + text[i:j][::-1] + text[j:]
        elif kind == 2:
            text = text[:j] + text[i:]
        elif kind == 3 and text:
            raw = bytearray(text.encode("utf-8", "surrogatepass"))
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            text = raw.decode("utf-8", "replace")
        else:
            text = text[:i] + chance.choice(INSERTED) + text[i:]
    return text


def test_spoilt_completions():
    "A list of turns without a mark in it, or a ParseError that names its rule; nothing else"
    chance, n_read = random.Random(15), 0
    whole = [case["text"] for case in FAMILIES]
    n = int(os.environ.get("ARABIC_DIALOG_FUZZ", "3000"))
    for _ in range(n):
        text = spoil(chance.choice(whole), chance)
        try:
            parsed = read_completion(text)
        except ParseError as error:
            assert error.rule in PARSE_RULES and error.detail and 0 <= error.position <= len(text)
            continue
        n_read += 1
        assert len(parsed.turns) >= 2
        for turn in parsed.turns:
            assert turn.speaker in SPEAKERS and turn.text and turn.text == turn.text.strip()
            assert not MARK.search(turn.text), (text, turn.text)
            turn.text.encode()
        for removal in parsed.removed:
            assert removal.kind in REMOVALS and removal.text and 0 <= removal.position <= len(text)
    assert n / 5 < n_read < n  # both ways out were taken often
