"Masks that train the wrong tokens, texts that mean harm, and the page that shows what is trained"

import json
import re
from html.parser import HTMLParser
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from arabic_dialog.core.files import data_path, load_jsonl
from arabic_dialog.models.loading import new_model
from arabic_dialog.models.tokenizers import ROLE_TOKENS, load_chat_template, load_tokenizer
from arabic_dialog.core.records import Conversation, Scenario, Turn, UserError
from arabic_dialog.finetuning.finetune import finetune
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.finetuning.packing import prove_batch
from arabic_dialog.finetuning.masking import (
    encode_conversations,
    Encoded,
    encode_turns,
    mask_facts,
    prove_mask,
    render_mask,
    sample_rows,
    save_mask,
)

GOOD = load_chat_template()
TURNS = (
    Turn("user", "ما أشهر الخبز؟"),
    Turn("assistant", "العيش البلدي."),
    Turn("user", "نعم"),
    Turn("assistant", "أهلا بك في الأكل."),
)
OWN, SAID = (
    "{{- '<|user|> ' + message['content'] -}}",
    "{{- message['content'] + eos_token -}}\n        {%- endgeneration -%}",
)
ON, OFF = "{%- generation -%}", "{%- endgeneration -%}"
FAULTY = {
    "no marks": (re.sub(r"\{%- (end)?generation -%\}", "", GOOD), "no token is trained"),
    "empty marks": (
        GOOD.replace("'<|assistant|> '", "'<|assistant|>'").replace(
            SAID, "{%- endgeneration -%}{{- ' ' + message['content'] + eos_token -}}"
        ),
        "no token is trained",
    ),
    "no stop token": (
        GOOD.replace(SAID, "{{- message['content'] -}}{%- endgeneration -%}{{- eos_token -}}"),
        "stop token after 'العيش",
    ),
    "no stop token at all": (
        GOOD.replace(SAID, "{{- message['content'] -}}{%- endgeneration -%}"),
        "stop token after 'العيش",
    ),
    "user too": (GOOD.replace(OWN, ON + OWN + OFF), "the user's 'ما أشهر"),
    "user's words too": (
        GOOD.replace(OWN, "{{- '<|user|> ' -}}" + ON + "{{- message['content'] -}}" + OFF),
        "the user's 'ما أشهر",
    ),
    "all": (
        ON
        + re.sub(r"\{%- (end)?generation -%\}", "", GOOD).replace(
            "{%- endfor -%}", "{%- endfor -%}" + OFF, 1
        ),
        "the user's",
    ),
    "role token too": (
        GOOD.replace(
            "{{- '<|assistant|> ' -}}\n        {%- generation -%}", ON + "{{- '<|assistant|> ' -}}"
        ),
        r"frame's own token '<\|assistant\|>'",
    ),
    "more after the stop token": (
        GOOD.replace(SAID, "{{- message['content'] + eos_token + 'x' -}}" + OFF),
        "goes on after the stop token",
    ),
    "only the last reply": (
        GOOD.replace(ON, "{%- if loop.last -%}" + ON).replace(
            SAID, SAID + "{%- else -%}{{- message['content'] + eos_token -}}{%- endif -%}"
        ),
        "2 assistant turns, but 1 trained",
    ),
    "other words": (
        GOOD.replace(SAID, "{{- 'قال: ' + message['content'] + eos_token -}}" + OFF),
        "and should be",
    ),
    "user left out": (GOOD.replace(OWN, "{{- '<|user|>' -}}"), "is not among the untrained"),
    "no template": (None, "chat frame"),
    "broken": ("{{- raise_exception('no') -}}", "chat frame: no"),
    "no jinja": ("{% for %}", "chat frame"),
}


@pytest.fixture(scope="module")
def words():
    return [t.text for t in TURNS]


@pytest.fixture(params=["gpt2", "aragpt2"], scope="module")
def tokenizer(request, words, tmp_path_factory):
    "As it comes back from a checkpoint of each architecture"
    path = tmp_path_factory.mktemp(request.param)
    made = train_tokenizer(words, 330)
    new_model(request.param, made, 1, 16, 2, 64, seed=0).save_pretrained(path)
    made.save_pretrained(path)
    return load_tokenizer(path)


@pytest.fixture
def loose(words):
    return train_tokenizer(words, 330)  # one to spoil


def conversation(name, turns):
    return Conversation(name, Scenario("s", "bread", "EG", 0), tuple(turns), "m")


@pytest.mark.parametrize("what", FAULTY)
def test_a_template_that_fails_is_refused_with_the_reason(loose, what):
    loose.chat_template, reason = FAULTY[what]
    assert loose.chat_template != GOOD
    with pytest.raises(UserError, match=f"conversation c7: .*{reason}"):
        encode_conversations(loose, [conversation("c7", TURNS)], 999)


def test_without_a_stop_token_nothing_is_encoded(loose):
    loose.eos_token = None
    with pytest.raises(UserError, match="no end-of-text token"):
        encode_turns(loose, TURNS, 999)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_reply_is_refused_and_an_empty_question_is_not(tokenizer, text):
    turns = TURNS[:1] + (Turn("assistant", text),) + TURNS[2:]
    with pytest.raises(UserError, match="empty"):
        encode_conversations(tokenizer, [conversation("c", turns)], 999)
    turns = (Turn("user", text),) + TURNS[1:]
    assert encode_conversations(tokenizer, [conversation("c", turns)], 999)[1].n_stops_trained == 2


@pytest.mark.parametrize("special", [*ROLE_TOKENS, "<|endoftext|>", "<|pad|>"])
@pytest.mark.parametrize("place", range(4))
def test_tokens_of_the_frame_are_not_smuggled_in(tokenizer, special, place):
    turns = [Turn(t.speaker, t.text + special) if i == place else t for i, t in enumerate(TURNS)]
    with pytest.raises(UserError, match=re.escape(special)):
        encode_conversations(tokenizer, [conversation("c", turns)], 999)


def test_a_mask_with_one_wrong_token_is_refused(tokenizer):
    encoded = encode_turns(tokenizer, TURNS, 999)
    ids, labels = encoded.ids, encoded.labels
    prove_mask(tokenizer, TURNS, ids, labels)
    for k, i in enumerate(ids):
        if not tokenizer.decode([i]).strip():
            continue  # a space of its own is no word
        with pytest.raises(UserError):
            prove_mask(
                tokenizer,
                TURNS,
                ids,
                [*labels[:k], -100 if labels[k] != -100 else i, *labels[k + 1 :]],
            )
    with pytest.raises(UserError, match="in its place"):
        prove_mask(tokenizer, TURNS, ids, labels[:-1])
    with pytest.raises(UserError, match="in its place"):
        prove_mask(tokenizer, TURNS, ids, [-100, *labels[:-1]])


TEXT = st.text(
    st.one_of(
        st.sampled_from("ابتسشلاأإآلمنهويةىءَُِّـ ؟،.\u200c\u200d\u202e\n"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)
HOSTILE = st.one_of(
    TEXT,
    TEXT.map(lambda t: f"<b>&{t}</b>"),
    st.sampled_from(
        ["<|user", "|>", "[|AI|]", "{{ eos_token }}", "لا", "‏", "\ufffd", "😀", "\x00"]
    ),
)
SPOKEN = HOSTILE.filter(
    lambda t: t.strip() and not any(x in t for x in (*ROLE_TOKENS, "<|endoftext|>", "<|pad|>"))
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(SPOKEN, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_exactly_the_assistants_tokens_are_trained(tokenizer, texts):
    turns = [Turn(("user", "assistant")[i % 2], t) for i, t in enumerate(texts)]
    encoded = encode_turns(tokenizer, turns, 9999)
    ids, labels = encoded.ids, encoded.labels

    def alone(t):
        return tokenizer(t, add_special_tokens=False)["input_ids"]

    want = [
        (i, i if t.speaker == "assistant" and k else -100)
        for t in turns
        for k, i in enumerate(
            [
                alone(f"<|{t.speaker}|>")[0],
                *alone(" " + t.text),
                *([tokenizer.eos_token_id] if t.speaker == "assistant" else []),
            ]
        )
    ]
    assert list(zip(ids, labels, strict=True)) == want
    n_trained = sum(label != -100 for _, label in want)
    assert prove_mask(tokenizer, turns, ids, labels).n_trained == n_trained
    shown = Page(render_mask(tokenizer, [Encoded(ids, labels, id=texts[0])]))
    assert shown.tokens == [(i, label != -100) for i, label in want] and not shown.strange
    assert "".join(c for t in turns for c in t.text if c.isalnum()) in "".join(
        c for c in shown.text if c.isalnum()
    )


class Page(HTMLParser):
    "What a browser finds: (token, is it trained?), text without marks, and what does not belong"

    KNOWN = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "p",
        "dl",
        "div",
        "dt",
        "dd",
        "ul",
        "li",
        "section",
        "span",
        "mark",
        "bdi",
    }

    def __init__(self, page):
        super().__init__()
        self.tokens, self.sections, self.strange, self.text, self.inside, self.aside = (
            [],
            [],
            set(),
            "",
            0,
            0,
        )
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag not in self.KNOWN or any(k.startswith("on") or k in ("src", "href") for k in a):
            self.strange.add(tag)
        if tag in ("mark", "span") and "title" in a:
            self.tokens.append((int(a["title"]), tag == "mark"))
            self.inside = 1
        if tag == "bdi":
            self.aside = 1
        if tag == "section":
            self.sections.append((a["data-id"], int(a["data-tokens"]), int(a["data-trained"])))

    def handle_endtag(self, tag):
        if tag in ("mark", "span"):
            self.inside = 0
        if tag == "bdi":
            self.aside = 0

    def handle_data(self, data):
        if self.inside and not self.aside:
            self.text += data


def test_the_page_escapes_and_says_what_the_json_says(tokenizer, tmp_path):
    bad = "<script>alert(1)</script>\"' onload=x {{ 7*7 }} <img src=x>"
    cs = [
        conversation(f"{bad}{k}", (Turn("user", bad), Turn("assistant", bad + "لا")))
        for k in range(12)
    ]
    rows, sums = encode_conversations(tokenizer, cs, 999)
    shown = sample_rows(tokenizer, cs, 999, seed=1)
    save_mask(tmp_path, tokenizer, shown, sums)
    html, data = (
        (tmp_path / "mask.html").read_text(encoding="utf-8"),
        json.loads((tmp_path / "mask.json").read_text(encoding="utf-8")),
    )
    page, facts = Page(html), data["shown"]
    assert (
        data["dataset"] == sums.facts
        and len(facts["conversations"]) == 8
        and not page.strange
        and bad not in html
        and "49" not in page.text
    )
    assert page.sections == [
        (c["id"], c["n_tokens"], c["n_trained"]) for c in facts["conversations"]
    ]
    assert (
        len(page.tokens) == facts["n_tokens"]
        and sum(on for _, on in page.tokens) == facts["n_trained"]
    )
    for c in facts["conversations"]:
        share = f"{100 * c['trained_share']:.2f}%"
        assert f"{c['n_trained']:,} of {c['n_tokens']:,} tokens trained ({share})" in html
    assert (
        html.count("■") - 1 == facts["n_stops_trained"] == 8
        and f"<dd>{sums.n_trained:,}</dd>" in html
    )
    assert page.text.count(bad) == 16  # as text it is all there


def test_no_letter_is_kept_from_joining(tokenizer):
    "Nothing stands between tokens, and what a token's element carries at its sides is nothing"
    encoded = encode_turns(tokenizer, TURNS, 999)
    page = render_mask(tokenizer, [encoded])
    for line in re.findall(r'<div class="line"[^>]*>(.*?)</div>', page, re.S):
        assert not re.search(r"</(mark|span)>\s+<(mark|span)", line) and "\u200d" not in line
    style = page[page.index("<style>") : page.index("</style>")]
    for rule in re.findall(r"(?:^|\s)(?:mark)?\.t[^{,]*\{([^}]*)\}", style):
        assert not re.search(r"padding|margin|border|display", rule)


def test_a_broken_mask_can_still_be_looked_at(tokenizer):
    ids = encode_turns(tokenizer, TURNS, 999).ids
    for bad in (ids, [-100] * len(ids)):
        page = Page(render_mask(tokenizer, [Encoded(ids, bad)]))
        assert [on for _, on in page.tokens] == [label != -100 for label in bad]
    assert mask_facts(tokenizer, [])["trained_share"] == 0 and render_mask(tokenizer, [])


@pytest.mark.parametrize("pad_is_eos", [False, True])
@pytest.mark.parametrize("padding_free", [False, True])
def test_a_batch_trains_what_its_rows_train(loose, pad_is_eos, padding_free):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    if pad_is_eos:
        loose.pad_token = loose.eos_token
    rows, sums = encode_conversations(
        loose,
        [conversation("a", TURNS), conversation("b", TURNS[:2]), conversation("c", TURNS[2:])],
        999,
    )

    def batch():
        return DataCollatorForLanguageModeling(
            pad_token_id=loose.pad_token_id, padding_free=padding_free
        )(rows)

    proof = prove_batch(batch(), loose, rows)
    assert proof.n_trained == sums.n_trained and (proof.n_padding == 0) == padding_free
    plain = [
        {"input_ids": r["input_ids"], "labels": r["input_ids"]} for r in rows
    ]  # plain text: all of it is trained
    prove_batch(
        DataCollatorForLanguageModeling(pad_token_id=loose.pad_token_id, padding_free=padding_free)(
            plain
        ),
        loose,
        plain,
    )
    for spoil, reason in (
        (
            lambda b: b["labels"].masked_fill_(b["input_ids"] == loose.eos_token_id, -100),
            "stop token",
        ),
        (lambda b: b["input_ids"].fill_(7), "other tokens"),
        (lambda b: b["labels"].fill_(-100), "stop token"),
        (lambda b: b["labels"].copy_(b["input_ids"]), "padding|other labels"),
    ):
        spoil(b := batch())
        with pytest.raises(UserError, match=reason):
            prove_batch(b, loose, rows)
    with pytest.raises(UserError, match="run into each other|other tokens"):
        prove_batch(batch(), loose, rows[:1])


def test_a_share_out_of_bounds_is_refused(tokenizer):
    with pytest.raises(UserError, match="would be trained"):
        encode_conversations(
            tokenizer,
            [conversation("c", (Turn("user", "نعم " * 2000), Turn("assistant", "لا")))],
            99999,
        )


def test_a_collator_that_masks_stop_tokens_stops_the_training(words, tmp_path, monkeypatch):
    from trl.trainer import sft_trainer

    made = train_tokenizer(words, 330)
    new_model("gpt2", made, 1, 16, 2, 64, seed=0).save_pretrained(tmp_path / "base")
    made.save_pretrained(tmp_path / "base")
    good = sft_trainer.DataCollatorForLanguageModeling.torch_call

    def careless(self, examples):
        batch = good(self, examples)
        batch["labels"][batch["input_ids"] == made.eos_token_id] = -100
        return batch

    monkeypatch.setattr(sft_trainer.DataCollatorForLanguageModeling, "torch_call", careless)
    with pytest.raises(UserError, match="stop tokens"):
        finetune(
            tmp_path / "base",
            [conversation("a", TURNS)] * 3,
            [conversation("b", TURNS)],
            tmp_path / "out",
            steps=2,
            learning_rate=1e-3,
            batch_size=2,
            max_length=64,
            seed=0,
        )
    assert (tmp_path / "out" / "mask.json").is_file() and not list(
        (tmp_path / "out").glob("*.safetensors")
    )


WITH_SYSTEM = (
    "{%- if messages[0]['role'] == 'system' -%}{{- '[' + messages[0]['content'] + ']' -}}"
    "{%- set messages = messages[1:] -%}{%- endif -%}"
)


def labelled(tokenizer, c, max_length=999):
    "The words and the stops that are trained, as the labels have them"
    rows, proof = encode_conversations(tokenizer, [c], max_length)
    labels = rows[0]["labels"]
    assert all(label in (-100, i) for label, i in zip(labels, rows[0]["input_ids"], strict=True))
    trained = [label for label in labels if label != -100]
    return tokenizer.decode(trained).replace(tokenizer.eos_token, "|"), proof, rows[0]["input_ids"]


@pytest.mark.parametrize("untrained, learned", [((1,), (3,)), ((3,), (1,)), ((), (1, 3))])
def test_replies_that_are_not_to_be_learned_have_no_label(tokenizer, untrained, learned):
    c = replace(conversation("c", TURNS), untrained=untrained)
    trained, proof, ids = labelled(tokenizer, c)
    assert trained == "".join(f" {TURNS[n].text}|" for n in learned)
    assert ids == encode_turns(tokenizer, TURNS, 999).ids  # read all the same
    assert (proof.n_stops_trained, proof.n_replies_unlearned) == (len(learned), len(untrained))


def test_a_reply_that_is_not_learned_may_be_part_of_one_that_is(tokenizer):
    turns = (TURNS[0], Turn("assistant", "العيش"), TURNS[2], Turn("assistant", "العيش البلدي."))
    for untrained, words in (((1,), " العيش البلدي.|"), ((3,), " العيش|")):
        c = replace(conversation("c", turns), untrained=untrained)
        assert labelled(tokenizer, c)[0] == words


def test_a_cut_conversation_keeps_what_is_not_learned_in_place(tokenizer):
    whole = len(encode_turns(tokenizer, TURNS, 999).ids)
    for untrained, words in (((1,), f" {TURNS[3].text}|"), ((), f" {TURNS[3].text}|")):
        c = replace(conversation("c", TURNS), untrained=untrained)
        trained, proof, _ = labelled(tokenizer, c, whole - 1)
        assert trained == words and proof.n_truncated == 1
    rows, proof = encode_conversations(
        tokenizer,
        [replace(conversation("c", TURNS), untrained=(3,)), conversation("d", TURNS)],
        whole - 1,
    )
    assert len(rows) == 1 and proof.n_left_out == 1  # only what is not learned would have fitted


def test_a_conversation_of_which_nothing_is_learned_is_left_out(tokenizer):
    c = replace(conversation("c", TURNS), untrained=(1, 3))
    rows, proof = encode_conversations(tokenizer, [c, conversation("d", TURNS)], 999)
    assert len(rows) == 1 and (proof.n_conversations, proof.n_left_out) == (1, 1)
    assert sample_rows(tokenizer, [c], 999, 0) == []


def test_an_unlearned_reply_that_is_trained_is_refused(tokenizer):
    encoded = encode_turns(tokenizer, TURNS, 999)
    with pytest.raises(UserError, match="1 assistant turns, but 2 trained|is trained"):
        prove_mask(tokenizer, TURNS, encoded.ids, encoded.labels, untrained=(1,))


@pytest.mark.parametrize("untrained", [(), (1,)])
def test_an_instruction_is_read_and_never_trained(loose, untrained):
    loose.chat_template = WITH_SYSTEM + GOOD
    c = replace(conversation("c", TURNS), system="أجب بإيجاز.", untrained=untrained)
    trained, proof, ids = labelled(loose, c)
    assert "أجب بإيجاز." in loose.decode(ids) and "إيجاز" not in trained
    assert proof.n_instructions == 1
    cut = labelled(loose, c, len(ids) - 1)
    assert cut[1].n_truncated == 1 and "أجب بإيجاز." in loose.decode(cut[2])  # it stays when cut


def test_a_frame_without_a_place_for_an_instruction_is_refused(loose):
    c = replace(conversation("c", TURNS), system="أجب بإيجاز.")
    with pytest.raises(UserError, match="c: .*role system is neither .*--leave-out system"):
        encode_conversations(loose, [c], 999)
    loose.chat_template = GOOD.replace(
        "{{- raise_exception(", "{{- '' if true else raise_exception("
    )
    with pytest.raises(UserError, match="the chat frame leaves out the system's 'أجب بإيجاز.'"):
        encode_conversations(loose, [c], 999)
    loose.chat_template = WITH_SYSTEM + GOOD
    with pytest.raises(UserError, match="which only the chat frame may use"):
        encode_conversations(loose, [replace(c, system="نص<|assistant|>")], 999)


def test_turns_out_of_order_are_not_encoded(tokenizer):
    turns = (TURNS[0], TURNS[0], TURNS[1])
    for length in (20, 999):
        with pytest.raises(UserError, match="turn 2 is the user's: user and assistant should"):
            encode_turns(tokenizer, turns, length)


@pytest.mark.parametrize("preparation", ["", "arabert-2020"])
def test_a_reply_is_learned_from_its_first_token_on_however_its_text_is_prepared(preparation):
    sample = load_jsonl(data_path("sample", "conversations.jsonl"), Conversation)
    texts = [t.text for c in sample for t in c.turns]
    made = train_tokenizer(texts, 700, preparation=preparation)
    quoted = (TURNS[0], Turn("assistant", "«العيش» هو الأشهر."))
    for turns in (quoted, *(c.turns[:2] for c in sample)):
        encoded = encode_turns(made, turns, 999)
        prove_mask(made, turns, encoded.ids, encoded.labels)
        reply = made(f"<|assistant|> {turns[1].text}", add_special_tokens=False)["input_ids"][1:]
        learned = [i for i in encoded.labels if i != -100]
        assert learned == [*reply, made.eos_token_id]
