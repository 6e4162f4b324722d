"""Replies that are made once: whatever is changed, killed or asked again."""

import json, signal, subprocess, sys, time
from dataclasses import asdict

import pandas as pd
import pytest

from arabic_dialog.metrics import replies as an, scores as bm
from arabic_dialog.core.files import save_jsonl
from arabic_dialog.core.records import Completion, Sampling, UserError
from arabic_dialog.metrics.spoiling import sample_conversations

CONVERSATIONS = sample_conversations(30, "test")


def test_topics_come_up_equally_often():
    conversations = sample_conversations(300, "test")
    items = an.select_test_turns(conversations, 46, seed=1)
    topics = pd.Series({c: c.rsplit("_", 2)[0] for c, *_ in items}).value_counts()
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


def test_a_torn_log_of_replies_is_taken_up(tmp_path):
    items, path = an.select_test_turns(CONVERSATIONS, 8), tmp_path / "log.jsonl"
    whole = an.model_replies(Engine(), Tokenizer(), items, Sampling(), path, every=0)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    engine = Engine()
    assert an.model_replies(engine, Tokenizer(), items, Sampling(), path) == whole and 0 < len(
        engine.asked
    ) < len(items)
    assert sorted(path.read_bytes().splitlines()) == sorted(raw.splitlines())


def test_what_failed_is_said_and_what_was_made_is_kept(tmp_path):
    items = an.select_test_turns(CONVERSATIONS, 8)
    bad = "{}:{}".format(*items[3][:2])
    with pytest.raises(UserError, match=f"1 requests were not answered, such as {bad}"):
        an.model_replies(Engine({bad}), Tokenizer(), items, Sampling(), tmp_path / "log")
    engine = Engine()
    an.model_replies(engine, Tokenizer(), items, Sampling(), tmp_path / "log")
    assert [r.id for r in engine.asked] == [bad]


def test_the_own_history_is_what_the_model_said_and_first_replies_are_made_once(tmp_path):
    items, engine = an.select_test_turns(CONVERSATIONS, 8), Engine()
    log = tmp_path / "log"
    true = an.model_replies(engine, Tokenizer(), items, Sampling(), log)
    n = len(engine.asked)
    own = an.model_replies(engine, Tokenizer(), items, Sampling(), log, history="own")
    first = {min(i for c, i, *_ in items if c == k) for k in {c for c, *_ in items}}
    assert len(engine.asked) - n == sum(i not in first for _, i, *_ in items) and [
        r for r in own if r.turn in first
    ] == [r for r in true if r.turn in first]
    said = {(r.conversation_id, r.turn): r.text for r in own}
    for r in engine.asked[n:]:
        c, i = r.id.rsplit(":", 1)
        turns = r.prompt.split("|")
        history = next(h for k, j, h, _ in items if (k, j) == (c, int(i)))
        assert turns[0::2] == [t.text for t in history[0::2]] and turns[1::2] == [
            said[c, k] for k in range(1, int(i), 2)
        ]
    with pytest.raises(UserError, match="'mine' is not one of true, own"):
        an.model_replies(engine, Tokenizer(), items, Sampling(), log, history="mine")


def test_a_history_that_leaves_no_room_loses_its_oldest_exchanges(tmp_path):
    items, engine = an.select_test_turns(CONVERSATIONS), Engine()
    an.model_replies(
        engine, Tokenizer(), items, Sampling(max_new_tokens=10), tmp_path / "log", room=40
    )
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
    assert (
        base == an.log_paths(tmp_path, "m/x y", "id", Sampling())
        and len({base[0], *(o[0] for o in others)}) == 4
    )
    assert (
        base[1] == others[0][1] and len({base[1], others[1][1], others[2][1]}) == 3
    )  # the sampling does not concern a likelihood
    assert (
        base[0].parent == tmp_path / "replies"
        and "/" not in base[0].name
        and " " not in base[0].name
    )


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    from arabic_dialog.models.loading import new_model
    from arabic_dialog.finetuning.students import train_tokenizer

    folder = tmp_path_factory.mktemp("answering")
    tokenizer = train_tokenizer((t.text for c in CONVERSATIONS for t in c.turns), 500)
    new_model("aragpt2", tokenizer, 1, 32, 2, 512, 0).save_pretrained(folder / "m")
    tokenizer.save_pretrained(folder / "m")
    save_jsonl(folder / "test.jsonl", CONVERSATIONS)
    return {
        "test": str(folder / "test.jsonl"),
        "n": 6,
        "seed": 0,
        "name": "m-finetuned-s2",
        "checkpoint": str(folder / "m"),
        "cache": str(folder / "cache"),
        "batch_size": 4,
        "sampling": asdict(Sampling(temperature=0.8, max_new_tokens=6)),
        "histories": ("true", "own"),
    }


def counted(monkeypatch):
    "How many prompts and items reach the model"
    from arabic_dialog.models.engines import TransformersEngine

    n, complete, score = (
        {"replies": 0, "likelihoods": 0},
        TransformersEngine.complete,
        bm.score_replies,
    )

    def asked(self, requests, sampling):
        requests = list(requests)
        n["replies"] += len(requests)
        return complete(self, requests, sampling)

    def scored(model, tokenizer, items, *a, **k):
        n["likelihoods"] += len(items)
        return score(model, tokenizer, items, *a, **k)

    monkeypatch.setattr(TransformersEngine, "complete", asked)
    monkeypatch.setattr(bm, "score_replies", scored)
    return n


def test_only_what_a_change_concerns_is_made_again(job, tmp_path, monkeypatch):
    def run(out, **change):
        bm.answer(job | {"out": str(tmp_path / out), "cache": str(tmp_path / "cache")} | change)
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
    run("five", sampling=job["sampling"] | {"temperature": 0.5})
    assert n == {"replies": 2 * len(items) - 6, "likelihoods": 0}


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(job, tmp_path):
    """A process that answers slowly is killed; what it had logged is not asked again."""
    code = (
        "import json, sys, time; from arabic_dialog.metrics import replies as an, scores as bm; from arabic_dialog.models.engines import TransformersEngine as T; complete = T.complete\n"
        "def slow(self, requests, sampling):\n    for c in complete(self, requests, sampling): time.sleep(.05); yield c\n"
        "T.complete = slow; a = an.ask; an.ask = lambda *x: a(*x[:5], 0.); bm.answer(json.loads(sys.argv[1]))"
    )

    def asked(out, cache):
        return job | {"out": str(tmp_path / out), "cache": str(tmp_path / cache), "n": 20}

    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(asked("killed", "cache"))],
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
    bm.answer(asked("killed", "cache"))
    bm.answer(asked("whole", "other"))
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
