"Training that is interrupted, repeated or given nonsense"

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from arabic_dialog.core.files import save_jsonl
from arabic_dialog.core.records import Conversation, Scenario, Turn, UserError
from arabic_dialog.models.loading import load_model, new_model
from arabic_dialog.finetuning.finetune import finetune, pretrain
from arabic_dialog.finetuning.masking import encode_conversations, encode_turns
from arabic_dialog.finetuning.students import shuffle_replies, train_tokenizer
from arabic_dialog.finetuning.train import ModelSize, StudentJob, train_student
from arabic_dialog.finetuning.trainer import Training, arguments, order_rows, trainer_class

TOPICS = {"bread": "الخبز", "coffee": "القهوة", "tea": "الشاي", "music": "الموسيقى"}
PLACES = {"EG": "مصر", "JP": "اليابان", "MA": "المغرب", "FR": "فرنسا"}
SHAPE = dict(steps=8, learning_rate=1e-2, batch_size=4, max_length=96, seed=0)


def talk(topic, country):
    t, c = TOPICS[topic], PLACES[country]
    return Conversation(
        f"{topic}_{country}_0",
        Scenario(f"{topic}_{country}_0", topic, country, 0),
        (
            Turn("user", f"ماذا تعرف عن {t} في {c}؟"),
            Turn("assistant", f"يحب الناس {t} في {c}."),
            Turn("user", "شكرًا"),
            Turn("assistant", f"عفوًا، {t} موضوع جميل."),
        ),
        "test",
    )


TALKS = [talk(t, c) for t in TOPICS for c in PLACES]


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer((t.text for c in TALKS for t in c.turns), 400)


@pytest.fixture(scope="module", params=["gpt2", "aragpt2"])
def base(request, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    new_model(request.param, tokenizer, 1, 32, 2, 128, seed=0).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


class Kill(TrainerCallback):
    "Stops training as a crash would"

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def weights(path):
    return load_file(path / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_repeated_and_interrupted_runs_give_the_same_weights(base, tmp_path):
    def run(name, callbacks=()):
        return finetune(base, TALKS[:12], TALKS[12:], tmp_path / name, callbacks=callbacks, **SHAPE)

    run("whole")
    run("again")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "again"))
    for step in (1, 5, 7):
        with pytest.raises(KeyboardInterrupt):
            run(f"cut{step}", [Kill(step)])
        assert not (tmp_path / f"cut{step}" / "training.json").exists()
        if step > 2:
            assert list(
                (tmp_path / f"cut{step}" / "_trainer").glob("checkpoint-*")
            )  # it has something to go on from
        run(f"cut{step}")
        assert same(weights(tmp_path / "whole"), weights(tmp_path / f"cut{step}"))
        for file in ("curve.csv", "training.json"):
            assert (tmp_path / f"cut{step}" / file).read_text() == (
                tmp_path / "whole" / file
            ).read_text()
        assert not (tmp_path / f"cut{step}" / "_trainer").exists()


def test_the_mask_is_there_before_the_first_step_and_stays_the_same(base, tmp_path):
    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            seen.append({f.name: f.read_bytes() for f in tmp_path.glob("cut/mask.*")})

    seen = []
    with pytest.raises(KeyboardInterrupt):
        finetune(
            base, TALKS[:12], TALKS[12:], tmp_path / "cut", callbacks=[Look(), Kill(5)], **SHAPE
        )
    finetune(base, TALKS[:12], TALKS[12:], tmp_path / "cut", callbacks=[Look()], **SHAPE)
    finetune(base, TALKS[:12], TALKS[12:], tmp_path / "whole", **SHAPE)
    after = [
        {f.name: f.read_bytes() for f in (tmp_path / run).glob("mask.*")}
        for run in ("cut", "whole")
    ]
    assert (
        after[0].keys() == {"mask.html", "mask.json"}
        and all(x == after[0] for x in (*seen, after[1]))
        and len(seen) == 2
    )
    assert all(str(part).encode() not in f for f in after[0].values() for part in (tmp_path, base))
    facts, mask = (
        json.loads((tmp_path / "cut" / "training.json").read_text()),
        json.loads(after[0]["mask.json"]),
    )
    assert mask["dataset"] == facts["proof"] and {
        c["id"] for c in mask["shown"]["conversations"]
    } <= {c.id for c in TALKS[:12]}


def test_a_resumed_run_does_not_start_over(base, tmp_path):
    class Count(TrainerCallback):
        def __init__(self):
            self.steps = []

        def on_step_end(self, args, state, control, **kwargs):
            self.steps.append(state.global_step)

    with pytest.raises(KeyboardInterrupt):
        finetune(base, TALKS[:12], TALKS[12:], tmp_path, callbacks=[Kill(7)], **SHAPE)
    finetune(base, TALKS[:12], TALKS[12:], tmp_path, callbacks=[counter := Count()], **SHAPE)
    assert counter.steps == [7, 8]


def test_state_of_another_job_is_not_resumed(base, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        finetune(base, TALKS[:12], TALKS[12:], tmp_path / "a", callbacks=[Kill(5)], **SHAPE)
    finetune(base, TALKS[:12], TALKS[12:], tmp_path / "a", **SHAPE | {"seed": 1})
    finetune(base, TALKS[:12], TALKS[12:], tmp_path / "b", **SHAPE | {"seed": 1})
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_the_folder_is_a_plain_checkpoint_and_training_lowers_the_loss(base, tmp_path):
    finetune(base, TALKS[:12], TALKS[12:], tmp_path, **SHAPE | {"steps": 40})
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    held = [float(r["loss"]) for r in rows if r["split"] == "validation"]
    assert (
        {r["split"] for r in rows} == {"train", "validation"}
        and len(held) == 4
        and held[-1] < held[0] / 1.5
    )
    tokenizer, model = (
        AutoTokenizer.from_pretrained(tmp_path),
        AutoModelForCausalLM.from_pretrained(tmp_path),
    )
    assert (
        tokenizer.chat_template and model.generation_config.eos_token_id == tokenizer.eos_token_id
    )
    facts = json.loads((tmp_path / "training.json").read_text())
    assert (
        facts["proof"]["n_stops_trained"] == facts["proof"]["n_assistant_turns"] == 24
        and facts["proof"]["n_user_tokens_trained"] == 0
    )
    assert "second" not in json.dumps(facts)


def test_the_lean_loss_is_trls_loss(base, tokenizer, tmp_path):
    from datasets import Dataset
    from trl import SFTTrainer

    rows, _ = encode_conversations(tokenizer, TALKS[:4], 96)
    losses, gradients = [], []
    for cls, packing in (
        (trainer_class(), True),
        (trainer_class(), False),
        (SFTTrainer, False),
        (SFTTrainer, True),
    ):
        model, args = (
            load_model(base, dtype="float32", device="cpu"),
            arguments(tmp_path, Training(1, 1e-3, 4, 0), 4, packing),
        )
        args.bf16 = False
        trainer = cls(
            model=model,
            args=args,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        loss = trainer.compute_loss(model.train(), trainer.data_collator(rows))
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.transformer.wte.weight.grad)
    assert losses == pytest.approx([losses[2]] * 4, rel=1e-5) and all(
        torch.allclose(g, gradients[2], atol=1e-6) for g in gradients
    )


def test_conversations_are_cut_at_turn_borders_and_counted(tokenizer):
    whole = len(encode_turns(tokenizer, TALKS[0].turns, 999).ids)
    rows, proof = encode_conversations(tokenizer, TALKS, whole - 1)
    assert (
        proof.n_truncated >= 1
        and proof.n_turns_dropped == 2 * proof.n_truncated
        and proof.n_left_out == 0
    )
    with pytest.raises(UserError, match="max_length = 4"):
        encode_conversations(tokenizer, TALKS, 4)


def test_templates_that_train_the_wrong_tokens_are_refused(tokenizer, base, tmp_path):
    from arabic_dialog.models.tokenizers import load_chat_template

    good = load_chat_template()
    for bad in (
        good.replace(
            "{{- message['content'] + eos_token -}}\n        {%- endgeneration -%}",
            "{{- message['content'] -}}{%- endgeneration -%}{{- eos_token -}}",
        ),
        good.replace(
            "{{- '<|user|> ' + message['content'] -}}",
            "{%- generation -%}{{- '<|user|> ' + message['content'] -}}{%- endgeneration -%}",
        ),
    ):
        assert bad != good
        model = load_model(base, device="cpu")
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        (tmp_path / "chat_template.jinja").write_text(bad, encoding="utf-8")
        with pytest.raises(UserError, match="conversation bread_EG_0"):
            finetune(tmp_path, TALKS[:1], TALKS[:1], tmp_path / "out", **SHAPE)


def test_shuffled_replies_change_topic_and_country_everywhere():
    owner = {
        t.text: c.scenario
        for c in TALKS
        for t in c.turns
        if t.speaker == "assistant" and PLACES[c.scenario.country] in t.text
    }
    for seed in range(5):
        for before, after in zip(TALKS, shuffle_replies(TALKS, seed), strict=True):
            assert after.id == before.id and [t for t in after.turns if t.speaker == "user"] == [
                t for t in before.turns if t.speaker == "user"
            ]
            for i in (1, 3):
                assert (
                    TOPICS[before.scenario.topic] not in after.turns[i].text
                    and PLACES[before.scenario.country] not in after.turns[i].text
                )
                if after.turns[i].text in owner:
                    assert owner[after.turns[i].text].country != before.scenario.country
    assert shuffle_replies(TALKS, 1) == shuffle_replies(TALKS, 1) != shuffle_replies(TALKS, 2)


def test_rows_are_seen_evenly():
    rows = [{"input_ids": [0] * n} for n in range(1, 31)]
    order = order_rows(rows, 12, 5, seed=3)
    assert sorted(order) == sorted([*range(30)] * 2) and order == order_rows(
        rows, 12, 5, seed=3
    ) != order_rows(rows, 12, 5, seed=4)


def test_what_cannot_be_trained_says_why(base, tokenizer, tmp_path):
    for train, held, change, message in (
        (TALKS, [], {}, "validation split is empty"),
        ([], TALKS, {}, "training split is empty"),
        (TALKS, TALKS, {"max_length": 4096}, "reads 128 tokens"),
        (TALKS, TALKS, {"kind": "tuned"}, "'tuned'"),
        (TALKS, TALKS, {"learning_rate": 1e12}, "no longer a number"),
    ):
        with pytest.raises(UserError, match=message):
            finetune(base, train, held, tmp_path / "out", **SHAPE | {"steps": 30} | change)
    with pytest.raises(UserError, match="fewer than one training sequence"):
        pretrain(
            lambda: new_model("gpt2", tokenizer, 1, 32, 2, 128, seed=0),
            tokenizer,
            ["مرحبا"],
            tmp_path / "p",
            **SHAPE,
        )


def test_one_job_is_plain_data(tmp_path):
    save_jsonl(tmp_path / "t.jsonl", TALKS[:12])
    save_jsonl(tmp_path / "v.jsonl", TALKS[12:])
    files = dict(train=str(tmp_path / "t.jsonl"), validation=str(tmp_path / "v.jsonl"))

    def job(kind, checkpoint, size=None):
        out = str(tmp_path / kind)
        return StudentJob(kind, checkpoint, out=out, how=Training(**SHAPE), size=size, **files)

    base = job("base", "new:gpt2", ModelSize(1, 32, 2, 128, vocabulary_size=500))
    train_student(json.loads(json.dumps(base.plain)))
    counts = train_student(job("control", str(tmp_path / "base")).plain)
    assert counts["n_conversations"] == 12 and all(isinstance(n, int) for n in counts.values())
    assert json.loads((tmp_path / "control" / "training.json").read_text())["kind"] == "control"


def test_every_setting_of_fine_tuning_is_read():
    from arabic_dialog.core.settings import load_profile

    smoke = load_profile("smoke")
    settings = [n for n in type(smoke).model_fields if n.startswith("finetune_")]
    names = {n.removeprefix("finetune_") for n in settings}
    assert names <= {f.name for f in fields(Training)}
    how = Training.to_reply(smoke, seed=7)
    assert all(getattr(how, n.removeprefix("finetune_")) == getattr(smoke, n) for n in settings)
    assert (how.seed, how.max_length, how.lora_rank) == (7, smoke.max_length, smoke.lora_rank)


def test_a_job_of_a_hyphenated_student_keeps_its_revision():
    from arabic_dialog.core.records import Checkpoint
    from arabic_dialog.core.settings import load_profile
    from arabic_dialog.finetuning.train import plan_training

    names = dict(students=("my-student", "other"), revisions=("0" * 40, "1" * 40))
    profile = load_profile("smoke").model_copy(update=names)
    checkpoint = Checkpoint.parse("my-student-control-s3")
    job = plan_training(profile, checkpoint, "owner/model", Path("split"), "out")
    assert (job.kind, job.how.seed, job.revision) == ("control", 3, "0" * 40)


def test_the_validation_sample_is_of_all_topics_alike_and_the_same_for_all():
    from collections import Counter
    from arabic_dialog.finetuning.finetune import N_VALIDATION, validation_sample

    def talk(topic, country, k):
        turns = (Turn("user", "ما؟"), Turn("assistant", "نعم."))
        scenario = Scenario(f"{topic}_{country}_{k}", topic, country, k)
        return Conversation(scenario.id, scenario, turns, "m")

    # sorted by topic, as a split is: the first hundred are about food
    sizes = {"food": 100, "sport": 40, "tea": 3}
    split = [
        talk(topic, country, k)
        for topic, n in sizes.items()
        for k in range(n // 3 + 1)
        for country in ("EG", "MA", "SY")
    ]
    chosen = validation_sample(split, 33)
    topics = Counter(c.scenario.topic for c in chosen)
    assert len(chosen) == 33 and topics == {"food": 14, "sport": 13, "tea": 6}
    countries = Counter(c.scenario.country for c in chosen if c.scenario.topic == "food")
    assert max(countries.values()) - min(countries.values()) <= 1
    assert validation_sample(split[::-1], 33) == chosen[::-1]  # whatever its order
    assert validation_sample(split, 10**6) == split
    assert {c.scenario.topic for c in validation_sample(split, N_VALIDATION)} == set(sizes)
