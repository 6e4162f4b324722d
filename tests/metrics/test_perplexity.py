"""Likelihoods: by lm-evaluation-harness, by hand in float64, the same however they are read."""

import math, random
from dataclasses import replace

import numpy as np, pytest, torch

from families import FAMILIES, HYBRID, make_family

from arabic_dialog.models.loading import ARCHITECTURES, load_model, new_model
from arabic_dialog.models.tokenizers import load_chat_template, load_tokenizer
from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.metrics.perplexity import (
    AssistantTurn,
    Reading,
    assistant_turns,
    bits_per_byte,
    by_conversation,
    perplexity,
    score_replies,
)
from arabic_dialog.metrics.spoiling import sample_conversations

CONVERSATIONS = sample_conversations(8, "test")
ITEMS = assistant_turns(CONVERSATIONS)


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    raw.train_from_iterator(
        [t.text for c in CONVERSATIONS for t in c.turns],
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<|end|>", "<|user|>", "<|assistant|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")


@pytest.fixture(params=ARCHITECTURES)
def pair(request, tokenizer):
    "A small model of each architecture, its weights spread out, with the tokenizer in its frame"
    tokenizer.chat_template = load_chat_template("jais" if request.param == "jais" else "students")
    model = new_model(
        request.param, tokenizer, n_layer=2, n_embd=48, n_head=4, n_positions=1024, seed=0
    ).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.mul_(3)
    return model, tokenizer


def texts(tokenizer, items):
    "(what comes before the reply, the reply and its end) as texts"

    def render(turns, prompt):
        return tokenizer.apply_chat_template(
            [{"role": t.speaker, "content": t.text} for t in turns],
            tokenize=False,
            add_generation_prompt=prompt,
        )

    out = []
    for t in items:
        before, whole = render(t.history, True), render([*t.history, t.reply], False)
        assert whole.startswith(before)
        out.append((before, whole[len(before) :]))
    return out


def harness(model, tokenizer, pairs, **kwargs):
    "The log-likelihoods that lm-evaluation-harness gives"
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=model, tokenizer=tokenizer, backend="causal", **{"batch_size": 4, **kwargs}
    )
    asked = [Instance("loglikelihood", {}, p, k) for k, p in enumerate(pairs)]
    return [likelihood for likelihood, _ in lm.loglikelihood(asked, disable_tqdm=True)]


def test_they_are_those_of_lm_evaluation_harness(pair):
    pytest.importorskip("lm_eval", reason="pip install lm-eval (CI has it)")
    model, tokenizer = pair
    theirs = harness(model, tokenizer, texts(tokenizer, ITEMS))
    assert np.allclose(
        [r.nll for r in score_replies(model, tokenizer, ITEMS)],
        -np.array(theirs),
        rtol=1e-5,
        atol=0,
    )


def test_a_history_cut_by_tokens_is_that_of_the_harness(pair):
    pytest.importorskip("lm_eval", reason="pip install lm-eval (CI has it)")
    model, tokenizer = pair
    long = [t for t in ITEMS if len(t.history) >= 3]
    pairs = texts(tokenizer, long)
    room = max(len(tokenizer(a)["input_ids"]) for _, a in pairs) + 8
    assert all(len(tokenizer(a + b)["input_ids"]) > room + 1 for a, b in pairs)
    theirs = harness(model, tokenizer, pairs, max_length=room, batch_size=1)
    reading = Reading(max_length=room, fit="tokens", stride=room)
    ours = score_replies(model, tokenizer, long, reading=reading)
    assert np.allclose([r.nll for r in ours], -np.array(theirs), rtol=1e-5, atol=0)


def test_they_are_those_of_a_hand_in_float64(pair):
    model, tokenizer = pair
    ours = score_replies(model, tokenizer, ITEMS)
    precise = model.double()
    for (before, after), row in zip(texts(tokenizer, ITEMS), ours, strict=True):
        n, ids = len(tokenizer(before)["input_ids"]), tokenizer(before + after)["input_ids"]
        with torch.no_grad():
            logits = precise(torch.tensor([ids])).logits[0].numpy()
        p = (
            logits
            - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
            - logits.max(-1, keepdims=True)
        )
        assert (
            row.nll == pytest.approx(-sum(p[k - 1, ids[k]] for k in range(n, len(ids))), rel=1e-5)
            and row.n_tokens == len(ids) - n
        )
    assert np.allclose(
        [r.nll for r in score_replies(precise, tokenizer, ITEMS)],
        [r.nll for r in ours],
        rtol=1e-5,
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_size_order_and_padding_change_nothing(pair, side):
    model, tokenizer = pair
    apart = Reading(share=False)
    alone = [score_replies(model, tokenizer, [i], 1, apart)[0] for i in ITEMS]
    try:
        tokenizer.padding_side = side
        for batch_size in (1, 5, 64):
            shuffled = random.Random(batch_size).sample(range(len(ITEMS)), len(ITEMS))
            rows = score_replies(model, tokenizer, [ITEMS[k] for k in shuffled], batch_size)
            assert np.allclose(
                [r.nll for r in rows], [alone[k].nll for k in shuffled], rtol=1e-5, atol=0
            )
            assert [(r.conversation_id, r.turn, r.n_tokens) for r in rows] == [
                (ITEMS[k].conversation_id, ITEMS[k].turn, alone[k].n_tokens) for k in shuffled
            ]
    finally:
        tokenizer.padding_side = "right"


def test_bfloat16_is_near_float32_and_float16_that_overflows_is_refused(pair):
    model, tokenizer = pair
    exact = score_replies(model, tokenizer, ITEMS)
    rough = score_replies(model.to(torch.bfloat16), tokenizer, ITEMS)
    alone = [score_replies(model, tokenizer, [i], batch_size=1)[0] for i in ITEMS]
    assert perplexity(rough) == pytest.approx(perplexity(exact), rel=0.03) and perplexity(
        alone
    ) == pytest.approx(perplexity(rough), rel=0.01)
    model.get_output_embeddings().weight.data[:] = float("inf")
    with pytest.raises(UserError, match="bfloat16 or float32"):
        score_replies(model, tokenizer, ITEMS)


def test_the_end_token_is_counted_where_it_is_asked_for(pair):
    model, tokenizer = pair
    with_end, without = (
        score_replies(model, tokenizer, ITEMS, reading=Reading(count_eos=e)) for e in (True, False)
    )
    assert all(
        a.n_tokens - b.n_tokens == 1 and a.nll > b.nll and a.n_bytes == b.n_bytes
        for a, b in zip(with_end, without, strict=True)
    )


def test_an_empty_reply_is_its_end_and_one_without_history_is_read_after_the_beginning_of_a_text(
    tokenizer,
):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    model = new_model(
        "gpt2", tokenizer, n_layer=1, n_embd=32, n_head=2, n_positions=256, seed=0
    ).eval()
    said = Turn("assistant", "نعم.")
    empty, bare = score_replies(
        model,
        tokenizer,
        [
            AssistantTurn("a", 1, (Turn("user", "هل؟"),), Turn("assistant", "")),
            AssistantTurn("b", 0, (), said),
        ],
    )
    assert (
        empty.n_tokens == 1
        and empty.n_bytes == 0
        and math.isnan(bits_per_byte([empty]))
        and perplexity([empty]) > 1
    )
    ids = [tokenizer.eos_token_id, *tokenizer(said.text + "<|end|>")["input_ids"]]
    with torch.no_grad():
        p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert bare.n_tokens == len(ids) - 1 and bare.nll == pytest.approx(
        -sum(p[k - 1, ids[k]].item() for k in range(1, len(ids))), rel=1e-5
    )
    (nothing,) = score_replies(
        model,
        tokenizer,
        [AssistantTurn("a", 1, (Turn("user", "هل؟"),), Turn("assistant", ""))],
        reading=Reading(count_eos=False),
    )
    assert (
        nothing.nll == 0
        and math.isnan(perplexity([nothing]))
        and score_replies(model, tokenizer, []) == []
    )


@pytest.mark.parametrize("stride", [1, 16, 64])
def test_every_token_of_a_reply_longer_than_the_context_counts_once_after_what_the_stride_leaves(
    tokenizer, stride
):
    tokenizer.chat_template = load_chat_template("students")
    model = new_model(
        "gpt2", tokenizer, n_layer=1, n_embd=32, n_head=2, n_positions=64, seed=0
    ).eval()
    t = ITEMS[0]
    long_reply = Turn("assistant", " ".join([t.reply.text] * 8))
    long = AssistantTurn(t.conversation_id, t.turn, t.history[-1:], long_reply)
    (row,) = score_replies(model, tokenizer, [long], reading=Reading(stride=stride))
    ((before, after),) = texts(tokenizer, [long])
    ids = tokenizer(before + after)["input_ids"]
    n = len(tokenizer(before)["input_ids"])
    total, at = 0.0, n
    while at < len(ids):  # the same by hand: each window ends `stride` tokens further
        end = min(len(ids), max(at + stride, 65))
        begin = max(0, end - 65)
        with torch.no_grad():
            p = model(torch.tensor([ids[begin : end - 1]])).logits[0].log_softmax(-1)
        total -= sum(p[k - 1 - begin, ids[k]].item() for k in range(at, end))
        at = end
    assert row.n_tokens == len(ids) - n > 128 and row.nll == pytest.approx(total, rel=1e-5)


def test_half_the_batch_is_read_where_memory_runs_out(pair, monkeypatch):
    model, tokenizer = pair
    calm = score_replies(model, tokenizer, ITEMS)
    forward = type(model).forward

    def small(self, input_ids=None, **kwargs):
        if len(input_ids) > 2:
            raise RuntimeError("CUDA out of memory")
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", small)
    assert np.allclose(
        [r.nll for r in score_replies(model, tokenizer, ITEMS, batch_size=16)],
        [r.nll for r in calm],
        rtol=1e-5,
    )


def test_values_of_turn_conversation_and_corpus_weigh_every_token_alike(pair):
    rows = score_replies(*pair, ITEMS)
    whole = by_conversation(rows)
    assert len(whole) == len(CONVERSATIONS) and sum(w.n_turns for w in whole) == len(rows)
    nats, n = sum(r.nll for r in rows), sum(r.n_tokens for r in rows)
    assert perplexity(rows) == pytest.approx(perplexity(whole)) == pytest.approx(math.exp(nats / n))
    assert perplexity(rows[:1]) == pytest.approx(math.exp(rows[0].nll / rows[0].n_tokens))
    assert bits_per_byte(whole) == pytest.approx(
        nats / math.log(2) / sum(len(r.text.encode()) for r in (t.reply for t in ITEMS))
    )


@pytest.fixture(scope="module")
def student():
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    conversations = sample_conversations(6, "test")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    raw.train_from_iterator(
        [t.text for c in conversations for t in c.turns],
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<|end|>", "<|user|>", "<|assistant|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>"
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=1024, n_embd=32, n_layer=2, n_head=2)
    ).eval()
    return model, tokenizer, assistant_turns(conversations)


PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NEWLINES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
WORDS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|> {% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize("template", [PLAIN, NEWLINES, WORDS], ids=["plain", "newlines", "words"])
@pytest.mark.parametrize("batch_size, share", [(1, False), (3, True), (16, False)])
def test_perplexity_is_the_same_however_it_is_read(student, template, batch_size, share):
    model, tokenizer, items = student
    tokenizer.chat_template = template
    rows = score_replies(model, tokenizer, items, batch_size, Reading(share=share))
    alone = [score_replies(model, tokenizer, [i], batch_size=1)[0] for i in items]
    assert np.allclose([r.nll for r in rows], [r.nll for r in alone], rtol=1e-5)
    assert [(r.conversation_id, r.turn, r.n_tokens) for r in rows] == [
        (t.conversation_id, t.turn, a.n_tokens) for t, a in zip(items, alone, strict=True)
    ]


def test_a_long_history_loses_its_oldest_turns_and_a_long_reply_is_read_in_windows(student):
    model, tokenizer, items = student
    tokenizer.chat_template = PLAIN
    longest = max(items, key=lambda t: len(t.history))
    history, reply = longest.history, longest.reply
    short = replace(longest, history=history[-1:])
    last = score_replies(model, tokenizer, [short])[0]
    room = len(
        tokenizer(
            tokenizer.apply_chat_template(
                [{"role": x.speaker, "content": x.text} for x in (history[-1], reply)],
                tokenize=False,
            )
        )["input_ids"]
    )
    cut = score_replies(model, tokenizer, [longest], reading=Reading(max_length=room))[0]
    assert cut.nll == pytest.approx(last.nll, rel=1e-5)
    long = Turn("assistant", " ".join([reply.text] * 12))
    whole, windowed = (
        score_replies(
            model, tokenizer, [replace(short, reply=long)], reading=Reading(max_length=m)
        )[0]
        for m in (None, 128)
    )
    assert whole.n_tokens == windowed.n_tokens > 256 and windowed.nll == pytest.approx(
        whole.nll, rel=0.05
    )


def test_templates_that_hide_the_reply_or_its_end_are_refused(student):
    model, tokenizer, items = student
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content | upper }}{% if loop.last %}!{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}?{% endif %}"
    )
    with pytest.raises(UserError, match="prompt followed by the reply"):
        score_replies(model, tokenizer, items[:1])
    tokenizer.chat_template = PLAIN.replace("<|end|>", "")
    with pytest.raises(UserError, match="no reply could end"):
        score_replies(model, tokenizer, items[:1])
    without = Reading(count_eos=False)
    assert score_replies(model, tokenizer, items[:1], reading=without)[0].n_tokens > 0


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in HYBRID])
def test_every_family_is_scored_with_the_token_that_ends_its_turn(name, tmp_path):
    make_family(tmp_path, name)
    model, tokenizer = load_model(tmp_path, device="cpu"), load_tokenizer(tmp_path)
    if not tokenizer.chat_template:
        tokenizer = load_tokenizer(tmp_path, frame="plain")
    turns = assistant_turns(CONVERSATIONS[:1])
    with_end = score_replies(model, tokenizer, turns)
    without = score_replies(model, tokenizer, turns, reading=Reading(count_eos=False))
    for a, b, t in zip(with_end, without, turns, strict=True):
        n_words = len(tokenizer(t.reply.text, add_special_tokens=False)["input_ids"])
        assert a.n_tokens == b.n_tokens + 1 and a.nll > b.nll
        assert abs(b.n_tokens - n_words) <= 2  # a blank before the words may join one of them
