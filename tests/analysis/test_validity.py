"The validity study against SciPy and by simulation; broken files"

import json
import math

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from arabic_dialog.analysis import validity as vl
from arabic_dialog.core.records import UserError
from arabic_dialog.models.encoders import load_encoder
from arabic_dialog.metrics.raven import PARTS, Raven
from arabic_dialog.metrics.spoiling import cases, sample_conversations


@pytest.fixture(scope="module")
def raven():
    return Raven(load_encoder())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """True replies and others, rated by rule with noise; two replies a context."""
    folder, rng, pool = (
        tmp_path_factory.mktemp("rated"),
        np.random.default_rng(0),
        cases(sample_conversations(40, "test")),
    )
    for name in ("first", "second"):
        rows = []
        for k, case in enumerate(pool[:40]):
            other = pool[(k + 17) % len(pool)].reply
            rows += [
                {
                    "context": case.history,
                    "reply": r,
                    "rating": good * 2 + float(rng.normal()),
                    "cluster": str(k),
                }
                for r, good in ((case.reply, 1), (other, 0))
            ]
        (folder / f"{name}.jsonl").write_text(
            "\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8"
        )
    return folder


@pytest.fixture(scope="module")
def studied(folder, raven):
    return vl.study_validity(folder, raven, n_resamples=200, n=25)


def test_the_study_on_ratings_that_are_known(folder, raven, studied):
    people, ladder = studied
    at = people.set_index(["set", "measure"])
    for name in ("first", "second"):
        rated = vl.load_rated(folder)[name]
        scored = raven.score([(t.context, t.reply) for t in rated]).raven
        assert at.rho[name, "raven"] == pytest.approx(
            spearmanr(scored, [t.rating for t in rated]).statistic
        )
        assert (
            at.low[name, "raven"] < at.rho[name, "raven"] < at.high[name, "raven"]
            and at.n[name, "raven"] == 80
        )
    assert (
        at.rho["pooled", "raven"] > 0.5
        and at.ahead_low["pooled", "length"] > 0
        and at.p_williams["pooled", "length"] < 1e-6
    )
    assert {f"without {p}" for p in PARTS} <= set(people.measure) and len(people) == 4 * (
        1 + 2 * len(PARTS) + len(vl.BASELINES)
    )
    assert ladder.unseen.all() and (ladder.version == "raven-2").all()


def test_williams_holds_its_level():
    """Two measures that agree equally are told apart about as often as the level says."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        y = rng.normal(size=60)
        a, b = y + 1.5 * rng.normal(size=60), y + 1.5 * rng.normal(size=60)
        r = np.corrcoef([y, a, b])
        hits += vl.williams(r[0, 1], r[0, 2], r[1, 2], 60)[1] < 0.05
    assert 0.025 < hits / 600 < 0.085


def test_partial_rho_is_that_of_the_residuals_of_ranks():
    rng = np.random.default_rng(1)
    g = rng.normal(size=80)
    a, b = g + rng.normal(size=80), g + rng.normal(size=80)
    ra, rb, rg = (rankdata(x) for x in (a, b, g))
    left = [x - np.polyval(np.polyfit(rg, x, 1), rg) for x in (ra, rb)]
    assert vl.partial_spearman(a, b, g) == pytest.approx(np.corrcoef(*left)[0, 1])


def test_resampled_rho_is_that_of_the_resample():
    rng = np.random.default_rng(2)
    x, y, clusters = (
        rng.normal(size=30).round(1),
        rng.normal(size=30).round(1),
        [str(k // 3) for k in range(30)],
    )
    drawn = vl.rho_draws({"x": x}, y, clusters, 5, seed=3)["x"]
    names, index = np.unique(clusters, return_inverse=True)
    counts = next(vl.resample_counts(len(names), 5, 3))
    for d, c in zip(drawn, counts, strict=True):
        rows = np.repeat(np.arange(30), c[index].astype(int))
        assert d == pytest.approx(spearmanr(x[rows], y[rows]).statistic)


BAD = {
    "not JSON": "{",
    "no object": "[1]",
    "no 'rating'": json.dumps({"context": [], "reply": ""}),
    "list of texts": json.dumps({"context": [1], "reply": "", "rating": 1}),
    "should be a text": json.dumps({"context": [], "reply": None, "rating": 1}),
    "should be a number": json.dumps({"context": [], "reply": "", "rating": "5"}),
}


@pytest.mark.parametrize("said", BAD)
def test_a_line_that_is_no_rated_turn_is_named(tmp_path, said):
    (tmp_path / "a.jsonl").write_text("\n" + BAD[said] + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"a.jsonl, row [12].*{said}"):
        vl.load_rated(tmp_path)


def test_sets_that_cannot_be_studied(tmp_path):
    with pytest.raises(UserError, match="no .jsonl"):
        vl.load_rated(tmp_path)
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"context": [], "reply": "نعم", "rating": 3}) for _ in range(20)),
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="1 different ratings"):
        vl.load_rated(tmp_path)


def test_turns_that_nobody_rated_are_left_out(tmp_path):
    rows = [{"context": ["سؤال"], "reply": f"جواب {k}", "rating": k % 4} for k in range(12)] + [
        {"context": [], "reply": "", "rating": x} for x in (None, math.nan)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert len(vl.load_rated(tmp_path)["a"]) == 12


def test_names_of_files_are_shown_as_plain_text(studied, capsys):
    people, ladder = studied
    vl.print_validity(people.replace({"set": {"first": "[red]x[/red]"}}), ladder)
    out = capsys.readouterr().out
    assert "[red" in out and "RAVEN" not in out


def test_the_numbers_that_are_kept_are_of_this_version():
    table = vl.load_people()
    at = table.set_index(["set", "measure"])
    assert at.rho["mean", "raven"] >= 0.25 and (at.rho.xs("raven", level="measure") > 0).all()
    for other in ("cosine", "letters"):
        assert at.p_williams["pooled", other] < 0.05 and at.ahead["pooled", other] > 0


def test_numbers_of_another_version_are_refused(tmp_path, monkeypatch):
    (tmp_path / "people.csv").write_text("version,set\nraven-1,x\n")
    monkeypatch.setattr(vl, "data_path", lambda *parts: tmp_path / parts[-1])
    with pytest.raises(UserError, match="raven-1"):
        vl.load_people()


def test_information_under_a_language_model(tmp_path):
    "What the history tells, by a model of this package: a number a turn, none without a reply"
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from arabic_dialog.models.tokenizers import load_chat_template
    import torch

    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    t.train_from_iterator(
        ["ما رأيك في القهوة؟ القهوة لذيذة جدًا."],
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|endoftext|>", "<|user|>", "<|assistant|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=t, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = load_chat_template("students")
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=128,
            n_embd=16,
            n_layer=1,
            n_head=2,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.eos_token_id,
        )
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    rated = [
        vl.RatedTurn(c, r, 1.0, "")
        for c, r in (
            ((), "القهوة لذيذة."),
            (("ما رأيك في القهوة؟",), "القهوة لذيذة."),
            (("نعم", "لا", "نعم"), "القهوة لذيذة."),
        )
    ]
    found = vl.information_under(str(tmp_path))(rated)
    assert (
        len(found) == 3
        and found[0] == pytest.approx(0, abs=1e-4)
        and np.isfinite(found).all()
        and found[1] != found[2]
    )
