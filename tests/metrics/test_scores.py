"""The benchmark's statistics against slow computations by hand, and perplexity under odd templates."""

import math

import numpy as np
import pandas as pd
import pytest

from arabic_dialog.metrics import scores as bm
from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.metrics.perplexity import reply_items, score_replies
from arabic_dialog.metrics.spoiling import sample_conversations


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    rows = [
        (f"c{c}", t, m, s, metric, v)
        for c in range(40)
        for t in (1, 3)
        for m, seeds, better in (("a", 3, 1.0), ("b", 3, 0.6), ("one", 1, 0.6))
        for s in range(seeds)
        for metric, v in (
            ("raven", better * rng.beta(5, 2)),
            ("nll", rng.gamma(5, 4 / better) + c),
            ("n_tokens", 5 + c % 7),
            ("n_bytes", 60 + c),
        )
    ]
    return pd.DataFrame(rows, columns=bm.COLUMNS)


def test_the_interval_over_seeds_and_conversations_is_the_one_by_hand(scores):
    """Loops over resamples: conversations with replacement, and Student's t for the mean of three seeds."""
    ours = bm.summarise(scores, 4000).set_index(["model", "metric"]).loc[("a", "perplexity")]
    a = scores[scores.model == "a"]
    top, bottom = (
        a[a.metric == m]
        .pivot_table(index="seed", columns="conversation_id", values="value", aggfunc="sum")
        .to_numpy()
        for m in ("nll", "n_tokens")
    )
    spread = (top.sum(1) / bottom.sum(1)).std(ddof=1) / 3**0.5
    rng, draws = np.random.default_rng(1), []
    for _ in range(4000):
        c = rng.integers(40, size=40)
        draws.append(top[:, c].sum() / bottom[:, c].sum() + spread * rng.standard_t(2))
    assert ours.value == pytest.approx(math.exp(top.sum() / bottom.sum()))
    width = ours.high - ours.low
    assert np.allclose(
        [ours.low, ours.high], np.exp(np.quantile(draws, [0.025, 0.975])), atol=0.08 * width
    )


def test_seeds_that_differ_widen_the_interval_and_weaken_the_test(scores):
    other = scores.copy()
    other.loc[(other.metric == "raven") & (other.model == "a"), "value"] += (other.seed - 1) * 0.3
    other["value"] = other.value.where(other.metric != "raven", other.value.clip(0, 1))
    calm, wild = (
        bm.summarise(s, 1000).set_index(["model", "metric"]).loc[("a", "raven")]
        for s in (scores, other)
    )
    assert (
        wild.seed_share > 0.9 > calm.seed_share
        and wild.high - wild.low > 5 * (calm.high - calm.low)
        and 0 <= wild.low
        and wild.high <= 1
    )
    calm, wild = (bm.compare(s, ["raven"], [("a", "b")], 999).iloc[0] for s in (scores, other))
    assert (
        calm.p < 0.05
        and calm.p_seeds < 0.05
        and wild.p < 0.05 < wild.p_seeds
        and wild.low < 0 < calm.low
    )


def test_what_holds_for_other_fine_tunings_holds_for_these(scores):
    few = scores[scores.conversation_id.isin([f"c{k}" for k in range(6)])]
    found = bm.compare(few, ["raven", "bits_per_byte"], n_resamples=999).dropna()
    assert (
        len(found) == 6
        and (found.p_seeds >= found.p).all()
        and (found.p_seeds_holm >= found.p_seeds).all()
    )


def test_one_seed_each_has_no_say_on_other_fine_tunings(scores):
    found = bm.compare(scores[scores.seed == 0], ["raven"], [("a", "b")], 999).iloc[0]
    assert (
        math.isnan(found.p_seeds)
        and math.isnan(found.p_seeds_holm)
        and found.low <= found.difference <= found.high
        and 0.5 < found.wins < 1
    )


def test_intervals_do_not_depend_on_the_order_of_rows(scores):
    shuffled = scores.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(bm.summarise(scores, 300), bm.summarise(shuffled, 300))
    pd.testing.assert_frame_equal(
        bm.compare(scores, n_resamples=199), bm.compare(shuffled, n_resamples=199)
    )


def test_chance_alone_is_rarely_significant():
    rng, hits = np.random.default_rng(0), 0
    for k in range(100):
        cluster = rng.normal(size=30).repeat(2)
        rows = [
            (f"c{i // 2}", i % 2, m, 0, "raven", v)
            for m in "ab"
            for i, v in enumerate(cluster + rng.normal(size=60) + rng.normal(size=30).repeat(2))
        ]
        hits += (
            bm.compare(pd.DataFrame(rows, columns=bm.COLUMNS), n_resamples=199, seed=k).p[0] < 0.05
        )
    assert hits <= 12


def test_models_are_compared_on_common_turns_only(scores):
    fewer = scores[~((scores.model == "b") & (scores.conversation_id == "c0"))]
    assert set(bm.compare(fewer, n_resamples=99).n) == {78, 80}
    with pytest.raises(UserError, match="no turn in common"):
        bm.compare(
            scores[
                (scores.model == "a") & (scores.turn == 1)
                | (scores.model == "b") & (scores.turn == 3)
            ],
            n_resamples=99,
        )


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda s: s[s.model == "none"], "no scores"),
        (lambda s: s.assign(value=float("nan")), "missing values"),
    ],
)
def test_scores_that_cannot_be_summarised(scores, change, said):
    with pytest.raises(UserError, match=said):
        bm.summarise(change(scores))


def test_unknown_models_and_conversations_are_named(scores):
    with pytest.raises(UserError, match="'z' has no raven"):
        bm.compare(scores, pairs=[("a", "z")])
    with pytest.raises(UserError, match="'gone'"):
        bm.score_models([bm.Reply("gone", 1, "m", 0, "نعم", "stop")], [], None, None, None)


def test_own_histories_are_scored_with_what_the_model_had_said():
    conversations = sample_conversations(4, "test")
    items = reply_items(conversations)

    class Seen:
        def score(self, texts, progress=None):
            self.texts = texts
            return pd.DataFrame(
                {p: [float(len(h)) / 10 for h, _ in texts] for p in ("raven", *bm.PARTS)}
            )

    said = [bm.Reply(c, i, "m", 0, f"جواب {i}", "stop") for c, i, _, _ in items]
    raven = Seen()
    table = bm.score_models([], conversations, raven, lambda t: (), lambda c: (), own=said)
    assert set(table.metric) == {
        "own_raven",
        *(f"own_{p}" for p in bm.PARTS),
        "own_ended",
        "own_length",
    }
    assert all(h[k] == f"جواب {k}" for h, _ in raven.texts for k in range(1, len(h), 2))
    with pytest.raises(UserError, match="no turn 99"):
        bm.score_models(
            [bm.Reply(items[0][0], 99, "m", 0, "نعم", "stop")], conversations, raven, None, None
        )


@pytest.mark.parametrize("drop", bm.COLUMNS)
def test_a_missing_column_is_named(scores, drop, tmp_path):
    for call in (bm.summarise, bm.compare):
        with pytest.raises(UserError, match=f"no column {drop}"):
            call(scores.drop(columns=drop))
    bm.save_scores(scores.drop(columns=drop), tmp_path / "s.csv")
    with pytest.raises(UserError, match=f"no column {drop}"):
        bm.load_scores(tmp_path / "s.csv")


def test_one_conversation_has_values_and_no_intervals(scores):
    one = scores[scores.conversation_id == "c0"]
    table, tests = bm.summarise(one, 99), bm.compare(one, n_resamples=99)
    assert (
        table.value.notna().all()
        and table.low.isna().all()
        and tests.p.eq(1).all()
        and tests.low.isna().all()
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
    return model, tokenizer, reply_items(conversations)


PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
NEWLINES = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
WORDS = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|> {% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


@pytest.mark.parametrize("template", [PLAIN, NEWLINES, WORDS], ids=["plain", "newlines", "words"])
@pytest.mark.parametrize("batch_size, share", [(1, False), (3, True), (16, False)])
def test_perplexity_is_the_same_however_it_is_read(student, template, batch_size, share):
    model, tokenizer, items = student
    tokenizer.chat_template = template
    rows = score_replies(model, tokenizer, items, batch_size=batch_size, share=share)
    alone = [score_replies(model, tokenizer, [i], batch_size=1)[0] for i in items]
    assert np.allclose([r["nll"] for r in rows], [r["nll"] for r in alone], rtol=1e-5)
    assert [(r["conversation_id"], r["turn"], r["n_tokens"]) for r in rows] == [
        (c, t, a["n_tokens"]) for (c, t, *_), a in zip(items, alone)
    ]


def test_a_long_history_loses_its_oldest_turns_and_a_long_reply_is_read_in_windows(student):
    model, tokenizer, items = student
    tokenizer.chat_template = PLAIN
    c, t, history, reply = max(items, key=lambda i: len(i[2]))
    last = score_replies(model, tokenizer, [(c, t, history[-1:], reply)])[0]
    room = len(
        tokenizer(
            tokenizer.apply_chat_template(
                [{"role": x.speaker, "content": x.text} for x in (history[-1], reply)],
                tokenize=False,
            )
        )["input_ids"]
    )
    cut = score_replies(model, tokenizer, [(c, t, history, reply)], max_length=room)[0]
    assert cut["nll"] == pytest.approx(last["nll"], rel=1e-5)
    long = Turn("assistant", " ".join([reply.text] * 12))
    whole, windowed = (
        score_replies(model, tokenizer, [(c, t, history[-1:], long)], max_length=m)[0]
        for m in (None, 128)
    )
    assert whole["n_tokens"] == windowed["n_tokens"] > 256 and windowed["nll"] == pytest.approx(
        whole["nll"], rel=0.05
    )


def test_templates_that_hide_the_reply_or_its_end_are_refused(student):
    model, tokenizer, items = student
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | upper }}{% if loop.last %}!{% endif %}{% endfor %}{% if add_generation_prompt %}?{% endif %}"
    with pytest.raises(UserError, match="prompt followed by the reply"):
        score_replies(model, tokenizer, items[:1])
    tokenizer.chat_template = PLAIN.replace("<|end|>", "")
    with pytest.raises(UserError, match="count_eos=False"):
        score_replies(model, tokenizer, items[:1])
    assert score_replies(model, tokenizer, items[:1], count_eos=False)[0]["n_tokens"] > 0
