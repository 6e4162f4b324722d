"""A dataset comes out the same whatever the engine does, and however the run is killed."""

import errno
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from arabic_dialog.generation import checking, completing, dataset
from arabic_dialog.generation.completing import CompletionLog
from arabic_dialog.core.files import digest, digest_file, find_root, load_csv, load_jsonl
from arabic_dialog.core.records import Completion, Conversation, Sampling, Scenario, UserError
from arabic_dialog.generation.checking import Examiner, examine_lines, load_gate
from arabic_dialog.generation.dataset import check_splits, make_dataset, split
from arabic_dialog.generation.embedded import EmbeddedEngine
from arabic_dialog.generation.quality import RULES
from arabic_dialog.generation.scenarios import plan_profile
from arabic_dialog.commands.reproduce import reproduce
from arabic_dialog.core.runs import RunFolder, Work
from arabic_dialog.core.settings import load_profile

SMALL = {"n_scenarios": "120"}


def make(path, overrides=SMALL, profile="smoke"):
    "The dataset of a small profile"
    reproduce(
        load_profile(profile, overrides=dict(overrides)), path, until="split", say=lambda line: None
    )


def made(path):
    "Fingerprints of all that the dataset's stages gave"
    return {
        f"{s}/{p.name}": digest_file(p)
        for s in ("complete", "check", "split")
        for p in sorted((path / s).iterdir())
        if p.name[0] != "_"
    }


def counts(path, stage):
    return json.loads((path / "stages" / f"{stage}.json").read_text(encoding="utf-8"))["counts"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    make(path)
    return path


class Faulty(EmbeddedEngine):
    "The embedded engine with a fault in how it gives what it has made"

    def __init__(self, fault):
        super().__init__(defect_rate=0.12)
        self.fault, self.calls = fault, 0

    def complete(self, requests, sampling):
        self.calls += 1
        return self.fault(self.calls, list(super().complete(requests, sampling)))


def use(monkeypatch, fault):
    "Have runs use an engine with this fault"
    engine = Faulty(fault)
    monkeypatch.setattr(dataset, "make_engine", lambda profile: engine)
    return engine


def out_of_order(call, done):
    return random.Random(call).sample(done, len(done))


def everything_twice(call, done):
    return done + done


def loses_a_third_at_first(call, done):
    return [c for i, c in enumerate(done) if call % 2 == 0 or i % 3]


@pytest.mark.parametrize("fault", [out_of_order, everything_twice, loses_a_third_at_first])
def test_faults_that_leave_no_trace(whole, tmp_path, monkeypatch, fault):
    use(monkeypatch, fault)
    make(tmp_path / "run")
    assert made(tmp_path / "run") == made(whole)
    ids = [
        c.scenario_id
        for c in load_jsonl(next((tmp_path / "run").glob("raw/*/completions.jsonl")), Completion)
    ]
    assert len(ids) == len(set(ids)) == counts(whole, "check")["attempts"]


@pytest.mark.parametrize(
    "error",
    [ConnectionError("the server is gone"), KeyboardInterrupt(), UserError("the endpoint is down")],
)
def test_what_was_finished_before_an_engine_fails_is_kept(whole, tmp_path, monkeypatch, error):
    def fails_often(call, done):
        yield from done[:17]
        if len(done) > 17:
            raise error

    use(monkeypatch, fails_often)
    attempts = 0
    while not (tmp_path / "run/split/train.jsonl").exists():
        try:
            make(tmp_path / "run")
        except (ConnectionError, KeyboardInterrupt, UserError) as e:
            assert e is error
        attempts += 1
        assert len(CompletionLog(next((tmp_path / "run").glob("raw/*/completions.jsonl")))) >= min(
            17 * attempts, 120
        )
    assert attempts >= 8 and made(tmp_path / "run") == made(whole)


def test_an_engine_that_always_loses_some_is_topped_up(tmp_path, monkeypatch):
    use(
        monkeypatch,
        lambda call, done: [
            c for c in done if random.Random(f"{call}{c.scenario_id}").random() > 0.3
        ],
    )
    make(tmp_path / "run")
    n = counts(tmp_path / "run", "check")
    cells = load_csv(tmp_path / "run/check/cells.csv")
    assert counts(tmp_path / "run", "complete")["lost"] > 0 and n["lost"] > 0
    assert (
        n["attempts"]
        == n["accepted"] + n["rejected"] + n["lost"]
        == sum(int(c["attempts"]) for c in cells)
    )
    assert (
        n["accepted"] == len(load_jsonl(tmp_path / "run/check/conversations.jsonl"))
        and n["accepted"] + n["deficit"] == 120
    )
    assert all(
        int(c["accepted"]) == int(c["quota"]) or int(c["attempts"]) == 3 * int(c["quota"])
        for c in cells
    )
    assert [c for c in cells if c["accepted"] < c["quota"]] == load_csv(
        tmp_path / "run/check/deficits.csv"
    )


def test_an_engine_that_answers_nothing_or_what_nobody_asked_is_named(tmp_path, monkeypatch):
    use(monkeypatch, lambda call, done: [])
    with pytest.raises(UserError, match="answered none of 120 prompts"):
        make(tmp_path / "silent")
    use(
        monkeypatch,
        lambda call, done: done[:5] + [Completion("tea_XX_9", "e", "p", "t", "stop", Sampling())],
    )
    with pytest.raises(UserError, match="'tea_XX_9'"):
        make(tmp_path / "wrong")


def small_disk(real_write, room):
    "os.write to a disk with so much room, full in the middle of a line"

    def write(fd, data):
        nonlocal room
        n = real_write(fd, bytes(data)[:room]) if room > 0 else 0
        room -= len(data)
        if not n:
            raise OSError(errno.ENOSPC, "No space left on device")
        return n

    return write


def syncs_until(real_sync, n):
    "os.fsync that fails the `n`-th time"

    def sync(fd):
        nonlocal n
        n -= 1
        if not n:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_sync(fd)

    return sync


def test_a_full_disk_is_named_and_nothing_is_corrupt(whole, tmp_path, monkeypatch):
    real_write, real_sync = os.write, os.fsync
    # full after 40 kB more each time, in the middle of a line; then at one fsync after the other
    for _ in range(6):
        monkeypatch.setattr(completing.os, "write", small_disk(real_write, 40_000))
        with pytest.raises(UserError, match="disk is full"):
            make(tmp_path / "run")
    monkeypatch.setattr(completing.os, "write", real_write)
    for k in range(12, 0, -3):
        monkeypatch.setattr(os, "fsync", syncs_until(real_sync, k))
        with pytest.raises(UserError, match="disk is full"):
            make(tmp_path / "run")
    monkeypatch.setattr(os, "fsync", real_sync)
    make(tmp_path / "run")
    assert made(tmp_path / "run") == made(whole)


def test_a_changed_rule_generates_only_the_new_deficit(whole, tmp_path, monkeypatch):
    asked = []

    def count(call, done):
        asked.extend(c.scenario_id for c in done)
        return done

    use(monkeypatch, count)
    make(tmp_path / "run")
    first = list(asked)
    for change in (
        {"max_turn_words": "40"},
        {"disabled_rules": "off_topic, near_duplicate"},
        {"attempts": "1"},
        {"n_scenarios": "150"},
        {},
    ):
        make(tmp_path / "run", SMALL | change)
    assert len(asked) == len(set(asked)) and asked[: len(first)] == first
    assert made(tmp_path / "run") == made(whole)


def test_an_unknown_rule_is_refused(tmp_path):
    with pytest.raises(UserError, match="'off_topik'"):
        make(tmp_path / "run", SMALL | {"disabled_rules": "off_topik"})


OPEN = """
import sys, time
from arabic_dialog.core.files import find_root
from arabic_dialog.core.settings import load_profile
from arabic_dialog.generation import checking
from arabic_dialog.generation.scenarios import plan_profile

if __name__ == "__main__":
    checking.PAYS_FROM = 0
    profile = load_profile("smoke", overrides={"n_scenarios": "120"})
    gate = checking.load_gate(profile, find_root())
    examiner = checking.Examiner(gate, workers=2, chunk=10)
    with open(sys.argv[1], "rb") as lines:
        for _ in examiner(lines, plan_profile(profile, find_root())):
            print(*examiner.workers.pool._processes, flush=True)
            time.sleep(60)
"""


def test_several_processes_find_the_same_and_end_with_their_parent(whole, tmp_path, monkeypatch):
    profile = load_profile("smoke", overrides=dict(SMALL))
    plan, gate = plan_profile(profile, find_root()), load_gate(profile, find_root())
    lines = (whole / "complete/completions.jsonl").read_bytes().splitlines(True)
    monkeypatch.setattr(checking, "PAYS_FROM", 0)
    with Examiner(gate, 2, chunk=25) as many:
        together = list(many(lines, plan))
    assert together == examine_lines(list(zip(lines, plan, strict=True)), gate)
    script = tmp_path / "script.py"
    script.write_text(OPEN)
    process = subprocess.Popen(
        [sys.executable, script, whole / "complete/completions.jsonl"],
        cwd=find_root(),
        stdout=subprocess.PIPE,
        text=True,
    )
    children = [int(c) for c in process.stdout.readline().split()]
    process.kill()
    process.wait()
    process.stdout.close()

    def alive(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    for _ in range(100):
        if not any(map(alive, children)):
            break
        time.sleep(0.1)
    assert len(children) == 2 and not any(map(alive, children))


def test_what_repeats_another_conversation_is_rejected_and_asked_for_again(tmp_path, monkeypatch):
    def repeats(call, done):
        return (
            [replace(c, text=done[i % 60].text) for i, c in enumerate(done)] if call == 1 else done
        )

    use(monkeypatch, repeats)
    make(tmp_path / "run", SMALL | {"disabled_rules": "off_topic, off_country"})
    said = counts(tmp_path / "run", "check")
    texts = [
        "\n".join(t.text for t in c.turns)
        for c in load_jsonl(tmp_path / "run/check/conversations.jsonl", Conversation)
    ]
    assert said["near_duplicates"] >= 45 and len(set(texts)) == len(texts) == said["accepted"]
    assert said["accepted"] > 100  # others were made in their place


def test_no_near_duplicate_crosses_even_where_they_are_let_in(tmp_path):
    def row(topic, country, text):
        return {
            "id": f"{topic}_{country}_0",
            "scenario": {"topic": topic, "country": country},
            "turns": [{"text": text}],
        }

    words = random.Random(0).sample(
        [a + b + c for a in "بتثجح" for b in "درسشص" for c in "كلمنه"], 120
    )
    texts = {
        (t, c): " ".join(random.Random(t + c).sample(words, 40))
        for t in "abcdefgh"
        for c in ("EG", "SA", "MA")
    }
    for i, cell in enumerate(texts):
        texts[cell] = texts["a", "EG"] if i % 3 == 0 else texts[cell]
    (tmp_path / "all.jsonl").write_text(
        "".join(
            json.dumps(row(*cell, text), ensure_ascii=False) + "\n" for cell, text in texts.items()
        ),
        encoding="utf-8",
    )
    n = split(tmp_path, tmp_path / "all.jsonl", 0.2, 0.2, 0, 0.8)
    assert sum(n.values()) == 24
    where = [
        name
        for name in n
        for r in load_jsonl(tmp_path / f"{name}.jsonl")
        if r["turns"][0]["text"] == texts["a", "EG"]
    ]
    assert len(where) == 8 and len(set(where)) == 1


# Killed at twenty moments: a run is started again and again, killed at a random moment of its way,
# and from the start when it came to its end

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    [
        "torch",
        "transformers.models.gpt2.modeling_gpt2",
        "transformers.models.auto",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
        "arabic_dialog.models.loading",
        "arabic_dialog.models.tokenizers",
        "arabic_dialog.commands.reproduce",
    ]
)


def killed_at_twenty_moments(tmp_path, overrides):
    def start(path):
        process = FORK.Process(target=make, args=(path, overrides))
        process.start()
        return process

    first = start(tmp_path / "warm")
    first.join()
    begun = time.perf_counter()
    second = start(tmp_path / "whole")
    second.join()
    seconds = time.perf_counter() - begun
    assert second.exitcode == 0
    expected, rng, kills, n, stages = made(tmp_path / "whole"), random.Random(0), 0, 0, Counter()
    while kills < 20:
        process = start(tmp_path / f"run{n}")
        process.join(rng.uniform(0.05, 0.8) * seconds)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), "it failed by itself"
        if process.exitcode == 0:
            assert made(tmp_path / f"run{n}") == expected
            n += 1
        else:
            kills += 1
            stages[len([*(tmp_path / f"run{n}").glob("stages/*")])] += 1
    last = start(tmp_path / f"run{n}")
    last.join()
    assert last.exitcode == 0 and made(tmp_path / f"run{n}") == expected
    assert (
        counts(tmp_path / "whole", "check")["attempts"]
        > counts(tmp_path / "whole", "complete")["completions"]
    )  # there was topping up
    return stages


def test_embedded_killed_at_twenty_moments(tmp_path):
    killed_at_twenty_moments(tmp_path, {"n_scenarios": "60", "defect_rate": "0.4"})


def save_babbler(path):
    "A model that babbles: a silent GPT-2 whose head says which sentences may follow which"
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    rng = random.Random(0)
    words = [a + b + c + d for a in "بتجح" for b in "ادرس" for c in "كلمن" for d in "يهفق"]
    users, assistants = (
        [f"{name}: {' '.join(rng.sample(words, 9))}{end}\n" for _ in range(40)]
        for name, end in (("المستخدم", "؟"), ("المساعد", "."))
    )
    vocabulary = ["<|endoftext|>", "<unk>", *users, *assistants]
    n = len(vocabulary)
    ids = torch.arange(n)
    tokenizer = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(path)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n,
            n_embd=n,
            n_layer=1,
            n_head=1,
            n_positions=512,
            tie_word_embeddings=False,
            eos_token_id=0,
            bos_token_id=0,
            pad_token_id=0,
        )
    )
    kind = torch.tensor([0, 1] + [2] * 40 + [3] * 40)
    may = torch.tensor([[0, 0, 0, 9.2], [0] * 4, [0, 8.0, 0, 8.0], [0, 0, 8.0, 0]])  # [next, now]
    with torch.no_grad():
        for name, w in model.named_parameters():
            w.zero_() if "ln_f" not in name else None
        model.transformer.wte.weight[ids, ids] = 1.0
        model.lm_head.weight.copy_((3 * may - 12)[kind][:, kind] / n**0.5)
        model.lm_head.weight += (
            0.5 * torch.rand(n, n, generator=torch.Generator().manual_seed(0)) / n**0.5
        )  # no two are as likely
    model.save_pretrained(path)


def test_transformers_killed_at_twenty_moments(tmp_path):
    save_babbler(tmp_path / "model")
    keep = {"too_few_turns", "too_many_turns", "roles", "repeated_turn"}
    killed_at_twenty_moments(
        tmp_path,
        {
            "n_scenarios": "24",
            "engine": "transformers",
            "generator": str(tmp_path / "model"),
            "temperature": "1",
            "top_p": "1",
            "repetition_penalty": "1",
            "max_new_tokens": "12",
            "generation_batch_size": "8",
            "disabled_rules": ", ".join(sorted(set(RULES) - keep)),
        },
    )


def test_stop_strings_are_read_with_their_escapes_and_are_a_log_of_their_own():
    plain, stopping = (
        load_profile("paper", overrides={"stop": text})
        for text in ("", "المستخدم:\\,, \\n\\n ,###\\\\")
    )
    assert stopping.stop == stopping.sampling.stop == ("المستخدم:,", "\n\n", "###\\")
    keys = [dataset.generator_keys(Work(p, RunFolder("x"))) for p in (plain, stopping)]
    assert digest(keys[0]) != digest(keys[1])


SERVED = {"engine": "openai", "endpoints": "http://localhost:1/v1", "generator": "m"}
OLDER = {"top_k": "0", "min_new_tokens": "0"}


@pytest.mark.parametrize(
    "overrides, fingerprint",
    [
        ({}, "902134e4756b55ec"),
        (SERVED, "86186109c35fca20"),
        # before the publisher's top_k and least length were asked for
        (OLDER, "0c3cea6fe7991536"),
        (SERVED | OLDER, "d54f8d104f90bc63"),
    ],
)
def test_the_logs_of_real_models_are_found_again(overrides, fingerprint):
    "Completions that cost GPU hours lie in a folder named by this: whatever the code becomes"
    work = Work(load_profile("paper", overrides=overrides), RunFolder("x"))
    assert digest(dataset.generator_keys(work)) == fingerprint


def test_completions_of_another_sampling_are_told_of_and_not_lost(tmp_path):
    said = []

    def open_with(**changes):
        profile = load_profile("paper", overrides=SERVED | changes)
        work = Work(profile, RunFolder(tmp_path), say=said.append)
        with dataset.open_log(work) as log:
            if not len(log):
                for n in range(3):
                    text = Completion(f"t_EG_{n}", "m", "p", "نعم", "stop", profile.sampling)
                    log.add(text)
            return len(log)

    open_with(**OLDER)
    assert said == []
    open_with()
    assert len(said) == 1 and "3 completions of this generator stay there" in said[0]
    assert "min_new_tokens 0 (now 4), top_k 0 (now 50)" in said[0]
    open_with()
    assert len(said) == 1  # told once, when the new log begins
    assert open_with(**OLDER) == 3


def test_a_run_too_small_to_split_ends_before_anything_is_asked(tmp_path):
    profile = load_profile("smoke", overrides={"n_scenarios": "6", "validation_share": "0.05"})
    work = Work(profile, RunFolder(tmp_path / "run"), say=lambda line: None)
    with pytest.raises(UserError, match="validation split would be empty: 6 pairs .*n_scenarios"):
        make_dataset(work)
    assert not list((tmp_path / "run").glob("raw/*"))


@pytest.mark.parametrize("test_share", [0.05, 0.1, 0.3])
def test_the_number_of_scenarios_that_is_advised_can_be_split(test_share):
    profile = load_profile("smoke").model_copy(update={"test_share": test_share})
    plan = [Scenario.of("bread", f"{k:03}") for k in range(300)]
    for n in range(1, 60):
        try:
            check_splits(plan[:n], profile, lambda line: None)
        except UserError as e:
            least = int(re.search(r"n_scenarios to (\d+)", str(e))[1])
            assert least > n
            check_splits(plan[:least], profile, lambda line: None)


def test_the_generator_gives_back_its_memory_before_the_students_are_trained(tmp_path, monkeypatch):
    import gc, weakref

    held = []

    class Model:
        "What holds the weights"

    class Engine(EmbeddedEngine):
        def __init__(self):
            super().__init__()
            self.model = Model()
            self.around = [self]  # a circle, as those of real models
            held.append(weakref.ref(self.model))

    asked = []
    monkeypatch.setattr(dataset, "make_engine", lambda profile: Engine())
    monkeypatch.setattr(dataset, "give_back_memory", lambda: asked.append(gc.collect()))
    profile = load_profile("smoke")
    dataset.make_dataset(Work(profile, RunFolder(tmp_path), say=lambda line: None))
    assert len(held) == len(asked) == 1 and held[0]() is None
    dataset.make_dataset(Work(profile, RunFolder(tmp_path), say=lambda line: None))
    assert len(held) == len(asked) == 1  # nothing was generated, nothing was held
