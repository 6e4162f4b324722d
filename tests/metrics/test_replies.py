"""Replies that are made once: whatever is changed, killed or asked again."""

import json, signal, subprocess, sys, time
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from arabic_dialog.metrics import perplexity as px, replies as an
from arabic_dialog.core.files import save_jsonl
from arabic_dialog.core.records import Completion, Sampling, UserError
from arabic_dialog.metrics.spoiling import sample_conversations

CONVERSATIONS = sample_conversations(30, "test")


def test_topics_come_up_equally_often():
    conversations = sample_conversations(300, "test")
    items = an.select_test_turns(conversations, 46, seed=1)
    topics = pd.Series(
        {t.conversation_id: t.conversation_id.rsplit("_", 2)[0] for t in items}
    ).value_counts()
    assert topics.sum() == 46 and topics.max() - topics.min() <= 1
    assert items != an.select_test_turns(conversations, 46, seed=2)
    with pytest.raises(UserError, match="-1"):
        an.select_test_turns(conversations, -1)


class Engine:
    name = "m-base-s0"

    def __init__(self, skip=()):
        self.asked, self.skip = [], skip

    def complete(self, requests, sampling):
        for r in requests:
            self.asked.append(r)
            if r.id not in self.skip:
                yield Completion(
                    r.id, self.name, r.prompt, f"جواب {len(r.prompt)}", "stop", sampling
                )


class Tokenizer:
    chat_template = "yes"

    def apply_chat_template(self, turns, **_):
        return "|".join(t["content"] for t in turns)

    def __call__(self, text, **_):
        return {"input_ids": text.split()}


SAMPLING = Sampling()


def replies(engine, items, path, *choices, every=1.0, sampling=SAMPLING):
    log = an.ReplyLog(path, every)
    return an.model_replies(engine, Tokenizer(), items, sampling, log, *choices)


def test_a_torn_log_of_replies_is_taken_up(tmp_path):
    items, path = an.select_test_turns(CONVERSATIONS, 8), tmp_path / "log.jsonl"
    whole = replies(Engine(), items, path, every=0)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    engine = Engine()
    assert replies(engine, items, path) == whole and 0 < len(engine.asked) < len(items)
    assert sorted(path.read_bytes().splitlines()) == sorted(raw.splitlines())


def test_what_failed_is_said_and_what_was_made_is_kept(tmp_path):
    items = an.select_test_turns(CONVERSATIONS, 8)
    bad = f"{items[3].conversation_id}:{items[3].turn}"
    with pytest.raises(UserError, match=f"1 requests were not answered, such as {bad}"):
        replies(Engine({bad}), items, tmp_path / "log")
    engine = Engine()
    replies(engine, items, tmp_path / "log")
    assert [r.id for r in engine.asked] == [bad]


def test_the_own_history_is_what_the_model_said_and_first_replies_are_made_once(tmp_path):
    items, engine = an.select_test_turns(CONVERSATIONS, 8), Engine()
    log = tmp_path / "log"
    true = replies(engine, items, log)
    n = len(engine.asked)
    own = replies(engine, items, log, "own")
    drawn = {t.conversation_id for t in items}
    first = {min(t.turn for t in items if t.conversation_id == c) for c in drawn}
    assert len(engine.asked) - n == sum(t.turn not in first for t in items)
    assert [r for r in own if r.turn in first] == [r for r in true if r.turn in first]
    said = {(r.conversation_id, r.turn): r.text for r in own}
    histories = {(t.conversation_id, t.turn): t.history for t in items}
    for r in engine.asked[n:]:
        c, i = r.id.rsplit(":", 1)
        turns = r.prompt.split("|")
        assert turns[0::2] == [t.text for t in histories[c, int(i)][0::2]]
        assert turns[1::2] == [said[c, k] for k in range(1, int(i), 2)]
    with pytest.raises(UserError, match="'mine' is not one of true, own"):
        replies(engine, items, log, "mine")


def test_an_engine_that_frames_prompts_itself_is_refused(tmp_path):
    engine = Engine()
    engine.framed = False
    with pytest.raises(UserError, match="framed=True"):
        replies(engine, an.select_test_turns(CONVERSATIONS, 1), tmp_path / "log")


def test_a_history_that_leaves_no_room_loses_its_oldest_exchanges(tmp_path):
    items, engine = an.select_test_turns(CONVERSATIONS), Engine()
    replies(engine, items, tmp_path / "log", "true", 40, sampling=Sampling(max_new_tokens=10))
    long = [r for r in engine.asked if len(r.prompt.split()) > 30]
    assert all(r.prompt.count("|") == 0 for r in long) and any(
        r.prompt.count("|") for r in engine.asked
    )


def test_another_sampling_checkpoint_or_precision_has_a_log_of_its_own(tmp_path):
    base = an.log_paths(tmp_path, "m/x y", "id", Sampling())
    others = [
        an.log_paths(tmp_path, "m/x y", *a)
        for a in (
            ("id", Sampling(temperature=0.5)),
            ("other", Sampling()),
            ("id", Sampling(), "bfloat16"),
        )
    ]
    assert base == an.log_paths(tmp_path, "m/x y", "id", Sampling())
    assert len({logs.replies for logs in (base, *others)}) == 4
    # the sampling does not concern a likelihood
    assert base.likelihoods == others[0].likelihoods
    assert len({logs.likelihoods for logs in (base, *others)}) == 3
    assert base.replies.parent == tmp_path / "replies"
    assert "/" not in base.replies.name and " " not in base.replies.name


def test_logs_of_real_models_keep_their_names():
    """A name that changes throws away replies that took hours; see REPLIES_MEAN."""
    logs = an.log_paths("cache", "jais-finetuned-s1", "0123456789abcdef", Sampling(), "bfloat16")
    assert logs.replies == Path("cache/replies/jais-finetuned-s1-24bac0bef89a2368.jsonl")
    assert logs.likelihoods == Path("cache/likelihoods/jais-finetuned-s1-d4ff85a7d8e1e093.jsonl")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    from arabic_dialog.models.loading import new_model
    from arabic_dialog.finetuning.students import train_tokenizer

    folder = tmp_path_factory.mktemp("answering")
    tokenizer = train_tokenizer((t.text for c in CONVERSATIONS for t in c.turns), 500)
    new_model("aragpt2", tokenizer, 1, 32, 2, 512, 0).save_pretrained(folder / "m")
    tokenizer.save_pretrained(folder / "m")
    save_jsonl(folder / "test.jsonl", CONVERSATIONS)
    return an.ReplyJob(
        name="m-finetuned-s2",
        checkpoint=str(folder / "m"),
        test=str(folder / "test.jsonl"),
        out="",
        cache=str(folder / "cache"),
        sampling=Sampling(temperature=0.8, max_new_tokens=6),
        n=6,
        histories=("true", "own"),
        batch_size=4,
    )


def counted(monkeypatch):
    "How many prompts and items reach the model"
    from arabic_dialog.models.engines import TransformersEngine

    n, complete, score = (
        {"replies": 0, "likelihoods": 0},
        TransformersEngine.complete,
        px.score_replies,
    )

    def asked(self, requests, sampling):
        requests = list(requests)
        n["replies"] += len(requests)
        return complete(self, requests, sampling)

    def scored(model, tokenizer, items, *a, **k):
        n["likelihoods"] += len(items)
        return score(model, tokenizer, items, *a, **k)

    monkeypatch.setattr(TransformersEngine, "complete", asked)
    monkeypatch.setattr(px, "score_replies", scored)
    return n


def test_only_what_a_change_concerns_is_made_again(job, tmp_path, monkeypatch):
    def run(out, **change):
        folders = {"out": str(tmp_path / out), "cache": str(tmp_path / "cache")}
        an.answer_test_turns(replace(job, **folders, **change))
        return [
            (tmp_path / out / f).read_bytes()
            for f in ("replies.jsonl", "own.jsonl", "likelihoods.jsonl")
        ]

    n = counted(monkeypatch)
    first = run("one")
    items = an.select_test_turns(CONVERSATIONS, 6)
    more = an.select_test_turns(CONVERSATIONS, 8)
    assert n["likelihoods"] == len(items) and n["replies"] == 2 * len(items) - 6
    n |= {"replies": 0, "likelihoods": 0}
    assert (
        run("two") == first
        and run("three", batch_size=7) == first
        and n == {"replies": 0, "likelihoods": 0}
    )
    run("four", n=8)
    assert n == {"replies": 2 * (len(more) - len(items)) - 2, "likelihoods": len(more) - len(items)}
    n |= {"replies": 0, "likelihoods": 0}
    run("five", sampling=replace(job.sampling, temperature=0.5))
    assert n == {"replies": 2 * len(items) - 6, "likelihoods": 0}


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(job, tmp_path):
    """A process that answers slowly is killed; what it had logged is not asked again."""
    code = """
import json, sys, time
from arabic_dialog.core.files import from_dict
from arabic_dialog.metrics import replies as an
from arabic_dialog.models.engines import TransformersEngine as Engine

complete, log = Engine.complete, an.ReplyLog
def slow(self, requests, sampling):
    for c in complete(self, requests, sampling):
        time.sleep(0.05)
        yield c
Engine.complete = slow
an.ReplyLog = lambda path, **choices: log(path, 0.0)
an.answer_test_turns(from_dict(an.ReplyJob, json.loads(sys.argv[1])))
"""

    def asked(out, cache):
        return replace(job, out=str(tmp_path / out), cache=str(tmp_path / cache), n=20)

    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(asdict(asked("killed", "cache")))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    logs, start = tmp_path / "cache/replies", time.monotonic()

    def kept():
        return sum(len(p.read_bytes().splitlines()) for p in logs.glob("*")) if logs.is_dir() else 0

    while kept() < 5 and process.poll() is None and time.monotonic() - start < 60:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = kept()
    total = 2 * len(an.select_test_turns(CONVERSATIONS, 20)) - 20
    assert 5 <= before < total
    an.answer_test_turns(asked("killed", "cache"))
    an.answer_test_turns(asked("whole", "other"))
    assert kept() == total  # nothing was made twice
    for f in ("replies.jsonl", "own.jsonl", "likelihoods.jsonl"):
        assert (tmp_path / "killed" / f).read_bytes() == (tmp_path / "whole" / f).read_bytes()


def test_another_file_of_the_checkpoint_is_another_model_but_its_card_is_not(tmp_path):
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "training.json",
    ):
        (tmp_path / name).write_text("a")
    first = an.checkpoint_identity(tmp_path)
    (tmp_path / "README.md").write_text("b")
    (tmp_path / "training.json").write_text("b")
    assert an.checkpoint_identity(tmp_path) == first
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("b")
        assert an.checkpoint_identity(tmp_path) != first
        (tmp_path / name).write_text("a")
