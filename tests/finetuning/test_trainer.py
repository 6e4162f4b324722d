"Training on more than one process, with adapters, on flat batches; and training that fails"

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, TrainerCallback

from arabic_dialog.finetuning import finetune as finetuning
from arabic_dialog.generation.reading import Source
from arabic_dialog.models.loading import load_model, new_model
from arabic_dialog.models.tokenizers import load_tokenizer
from arabic_dialog.core.files import save_jsonl
from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.finetuning.finetune import Material, finetune, fit
from arabic_dialog.finetuning.masking import encode_conversations
from arabic_dialog.commands.finetune import finetune_own
from arabic_dialog.core.settings import load_profile
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.finetuning.train import StudentJob, train_student
from arabic_dialog.finetuning.trainer import Training, trainer_class
from finetuning.test_finetune import SHAPE, TALKS, TOPICS, Kill, same, weights

SHAPE = SHAPE | {"precision": "float32"}
KINDS = ("gpt2", "aragpt2")


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    tokenizer = train_tokenizer((t.text for c in TALKS for t in c.turns), 400)
    for kind in KINDS:
        new_model(kind, tokenizer, 2, 32, 2, 128, seed=0).save_pretrained(root / kind)
        tokenizer.save_pretrained(root / kind)
    save_jsonl(root / "train.jsonl", TALKS[:12])
    save_jsonl(root / "validation.jsonl", TALKS[12:])
    return root


def train(base, out, callbacks=(), **change):
    return finetune(base, TALKS[:12], TALKS[12:], out, callbacks=callbacks, **SHAPE | change)


def losses(folder):
    return {
        (r["step"], r["split"]): float(r["loss"])
        for r in csv.DictReader((folder / "curve.csv").open())
    }


PROGRAM = """
import json, sys
from arabic_dialog.finetuning.train import train_student
from arabic_dialog.core.workers import Together, follow, join, leave, processes
join()
if processes()[0]: follow({"train_student": train_student})
else:
    w = Together({"train_student": train_student})
    for job in json.loads(sys.argv[1]): w.call(train_student, job)
    w.close(); leave()
"""


@pytest.mark.parametrize("way", ["copies", "parts"])
def test_two_processes_give_the_losses_and_weights_of_one(bases, tmp_path, way):
    "The model copied to each process (DDP), or shared out between them (FSDP)"

    def job(kind, out):
        return StudentJob(
            kind="finetuned",
            checkpoint=str(bases / kind),
            train=str(bases / "train.jsonl"),
            validation=str(bases / "validation.jsonl"),
            out=str(tmp_path / out),
            how=Training(**SHAPE),
        ).plain

    fsdp = (
        dict(
            ACCELERATE_USE_FSDP="true",
            FSDP_VERSION="2",
            FSDP_AUTO_WRAP_POLICY="TRANSFORMER_BASED_WRAP",
            FSDP_STATE_DICT_TYPE="FULL_STATE_DICT",
            FSDP_RESHARD_AFTER_FORWARD="true",
            FSDP_CPU_RAM_EFFICIENT_LOADING="false",
        )
        if way == "parts"
        else {}
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(tmp_path / "program.py"),
            json.dumps([job(k, f"two-{k}") for k in KINDS]),
        ],
        capture_output=True,
        text=True,
        env=os.environ | fsdp | {"OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in KINDS:
        train_student(job(kind, f"one-{kind}"))
        one, two = losses(tmp_path / f"one-{kind}"), losses(tmp_path / f"two-{kind}")
        assert one.keys() == two.keys() and all(abs(one[k] - two[k]) < 1e-4 for k in one), (
            one,
            two,
        )
        a, b = weights(tmp_path / f"one-{kind}"), weights(tmp_path / f"two-{kind}")
        assert a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=2e-4) for k in a)
        assert (
            json.loads((tmp_path / f"two-{kind}" / "_manifest.json").read_text())["processes"] == 2
        )
        assert not (tmp_path / f"two-{kind}" / "_trainer").exists()


def test_how_many_are_computed_at_once_does_not_matter(bases, tmp_path):
    for n in (4, 2, 1):
        train(bases / "gpt2", tmp_path / str(n), micro_batch_size=n)
    train(bases / "gpt2", tmp_path / "padded", packing=False, micro_batch_size=2)
    first = losses(tmp_path / "4")
    for n in ("2", "1"):
        assert losses(tmp_path / n) == pytest.approx(first, abs=1e-5)
    texts = [(tmp_path / n / "training.json").read_text() for n in ("4", "2", "1")]
    assert (
        len(set(texts)) == 1
        and json.loads(texts[0])["packing"]
        and not json.loads((tmp_path / "padded" / "training.json").read_text())["packing"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_flat_and_padded_batches_train_the_same(bases, tmp_path, kind):
    "Same rows in the same order: the losses agree, although one computes no padding"
    tokenizer = load_tokenizer(bases / kind)
    rows, _ = encode_conversations(tokenizer, TALKS, 96)
    order = [(5 * i) % len(rows) for i in range(32)]
    for packing in (True, False):
        model = load_model(bases / kind, dtype="float32")
        material = Material(lambda m=model: m, tokenizer, rows, rows[:4], order)
        fit(material, tmp_path / str(packing), Training(**SHAPE | {"packing": packing}))
    assert losses(tmp_path / "True") == pytest.approx(losses(tmp_path / "False"), abs=2e-5)
    a, b = (weights(tmp_path / str(p)) for p in (True, False))
    assert all(torch.allclose(a[k], b[k], atol=1e-4) for k in a)


class Hungry:
    "A trainer with which memory runs out: with more than `most` rows at once, or at one step"

    def __init__(self, most, at=None):
        self.most, self.at, self.seen = most, at, []

    def __call__(self):
        outer = self

        class Trainer(trainer_class()):
            def training_step(self, model, inputs, *args):
                n = len(inputs["cu_seq_lens_q"]) - 1
                outer.seen.append((self.state.global_step + 1, n))
                if n > outer.most and (outer.at is None or self.state.global_step + 1 >= outer.at):
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
                return super().training_step(model, inputs, *args)

        return Trainer


@pytest.mark.parametrize("at", [None, 5])
def test_when_memory_runs_out_half_as_many_go_on(bases, tmp_path, monkeypatch, at):
    train(bases / "gpt2", tmp_path / "whole")
    monkeypatch.setattr(finetuning, "trainer_class", hungry := Hungry(1, at))
    train(bases / "gpt2", tmp_path / "hungry")
    assert losses(tmp_path / "hungry") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    assert {n for _, n in hungry.seen} == {4, 2, 1} and (
        at is None or min(s for s, n in hungry.seen if n == 1) == 4
    )  # from the checkpoint of step 3
    assert json.loads((tmp_path / "hungry" / "_manifest.json").read_text())["micro_batch_size"] == 1


def test_when_not_even_one_fits_it_says_so(bases, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "trainer_class", Hungry(0))
    with pytest.raises(UserError, match="a single conversation.*max_length"):
        train(bases / "gpt2", tmp_path)


class Spoil(TrainerCallback):
    "Makes a weight no number after so many steps"

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            model.transformer.h[0].mlp.c_fc.weight.data[0, 0] = float("nan")


def test_a_loss_that_is_no_number_ends_training_with_the_last_good_checkpoint(bases, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(bases / "aragpt2", tmp_path / "good", [Kill(4)])
    with pytest.raises(UserError, match=r"step 5; lower the learning rate \(0.01\).*last-good"):
        train(bases / "aragpt2", tmp_path / "bad", [Spoil(4)])
    kept, wanted = (
        tmp_path / "bad" / "last-good",
        load_file(tmp_path / "good" / "_trainer" / "checkpoint-3" / "model.safetensors"),
    )
    assert (
        same(load_file(kept / "model.safetensors"), wanted)
        and not list(kept.glob("*.bin"))
        and not list(kept.glob("*.pt*"))
    )
    model, tokenizer = load_model(kept), load_tokenizer(kept)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert not (tmp_path / "bad" / "training.json").exists()
    with pytest.raises(UserError, match="step 1.*no checkpoint before"):
        train(bases / "aragpt2", tmp_path / "worse", [Spoil(0)])


def test_a_full_disk_loses_nothing(bases, tmp_path, monkeypatch):
    train(bases / "gpt2", tmp_path / "whole")
    save = torch.save

    def full(what, where, *args, **kwargs):
        if "checkpoint-6" in str(where):
            Path(where).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(what, where, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        UserError,
        match="the disk is full; make room, then run the same command again"
        ".*Nothing that was already made is lost",
    ):
        train(bases / "gpt2", tmp_path / "cut")
    assert (tmp_path / "cut" / "_trainer" / "checkpoint-6").exists()  # half of one
    monkeypatch.setattr(torch, "save", save)
    train(bases / "gpt2", tmp_path / "cut")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


DIES = """
import os, signal, sys, torch
from transformers import TrainerCallback
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from finetuning.test_trainer import train
from pathlib import Path
step, where = int(sys.argv[4]), sys.argv[5]
class Die(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if where == "step" and state.global_step == step: os.kill(os.getpid(), signal.SIGKILL)
if where == "save":
    save = torch.save
    def half(what, path, *args, **kwargs):
        if f"checkpoint-{step}" in str(path):
            Path(path).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return save(what, path, *args, **kwargs)
    torch.save = half
train(Path(sys.argv[2]), Path(sys.argv[3]), [Die()])
"""


def test_killed_at_a_step_or_while_saving_the_weights_come_out_the_same(bases, tmp_path):
    train(bases / "aragpt2", tmp_path / "whole")
    for step, where in (
        (2, "step"),
        (3, "save"),
        (5, "step"),
        (6, "save"),
        (8, "save"),
    ):  # one after the other in the same folder
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                DIES,
                str(Path(__file__).parents[1]),
                str(bases / "aragpt2"),
                str(tmp_path / "cut"),
                str(step),
                where,
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    train(bases / "aragpt2", tmp_path / "cut")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    for file in ("curve.csv", "training.json", "mask.json"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_training_stops_when_validation_no_longer_improves_and_the_best_is_kept(bases, tmp_path):
    counts = train(
        bases / "gpt2",
        tmp_path,
        steps=40,
        n_evaluations=20,
        patience=2,
        learning_rate=0.3,
        schedule="constant",
    )
    held = {int(s): x for (s, split), x in losses(tmp_path).items() if split == "validation"}
    best = min((s for s in held if s), key=held.get)
    assert (
        counts["n_steps"] < 40
        and counts["n_steps"] == max(held) == best + 2 * 2
        and counts["best_step"] == best
    )
    tokenizer = load_tokenizer(tmp_path)
    rows, _ = encode_conversations(tokenizer, TALKS[12:], 96)
    total = n = 0.0
    for r in rows:
        with torch.no_grad():
            out = load_model(tmp_path)(
                torch.tensor([r["input_ids"]]), labels=torch.tensor([r["labels"]])
            )
        k = sum(label != -100 for label in r["labels"])
        total += float(out.loss) * k
        n += k
    assert total / n == pytest.approx(held[best], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_are_trained_and_merged(bases, tmp_path, kind, method):
    from peft import PeftModel

    train(bases / kind, tmp_path, method=method, steps=60, learning_rate=3e-2)
    curve = losses(tmp_path)
    assert curve["60", "validation"] < curve["0", "validation"] - 0.5
    before, after = weights(bases / kind), weights(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    moved = (
        (before["transformer.wte.weight"] != after["transformer.wte.weight"])
        .any(1)
        .nonzero()
        .flatten()
        .tolist()
    )
    assert set(moved) == set(
        tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|endoftext|>"])
    )  # the frame's, which no adapter could teach
    assert torch.equal(
        before["transformer.h.0.ln_1.weight"], after["transformer.h.0.ln_1.weight"]
    ) and not torch.equal(
        before["transformer.h.0.attn.c_attn.weight"], after["transformer.h.0.attn.c_attn.weight"]
    )
    ids = torch.tensor([tokenizer("ماذا تعرف عن الشاي؟")["input_ids"]])
    with torch.no_grad():
        apart, merged = (
            PeftModel.from_pretrained(
                load_model(bases / kind, dtype="float32"), tmp_path / "adapter"
            )
            .eval()(ids)
            .logits,
            load_model(tmp_path)(ids).logits,
        )
    assert torch.allclose(apart, merged, atol=1e-4)
    facts = json.loads((tmp_path / "_manifest.json").read_text())
    assert (
        0 < facts["parameters_trained"] < facts["parameters"]
        and facts["flop"] > 0
        and facts["energy_kwh_at_most"] > 0
    )


def test_adapters_can_be_interrupted_too(bases, tmp_path):
    train(bases / "gpt2", tmp_path / "whole", method="lora")
    with pytest.raises(KeyboardInterrupt):
        train(bases / "gpt2", tmp_path / "cut", [Kill(5)], method="lora")
    train(bases / "gpt2", tmp_path / "cut", method="lora")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


STOCK = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
assert "arabic_dialog" not in sys.modules
ended = 0
for text in sys.argv[2:]:
    question = [{"role": "user", "content": text}]
    ids = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1]:]
    ended += int(out[-1]) == tokenizer.eos_token_id
    print(tokenizer.decode(out, skip_special_tokens=True))
assert ended == len(sys.argv) - 2, ended
"""


def test_stock_transformers_loads_the_checkpoint_and_replies_end(bases, tmp_path):
    train(bases / "gpt2", tmp_path, steps=150)
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(tmp_path), *(c.turns[0].text for c in TALKS[::4])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(line.strip().startswith("يحب الناس") for line in done.stdout.splitlines()), (
        done.stdout
    )


def test_text_is_prepared_as_the_model_expects_it(bases, tmp_path):
    "A folder named like a published AraGPT2: vowel marks are dropped, and the proof still holds"
    base = tmp_path / "aragpt2-mega"
    tokenizer = AutoTokenizer.from_pretrained(bases / "aragpt2")
    load_model(bases / "aragpt2").save_pretrained(base)
    tokenizer.save_pretrained(base)

    marked = [
        replace(
            c,
            turns=(
                Turn("user", "مَا رَأْيُكَ؟ (" + TOPICS[c.scenario.topic] + ")"),
                Turn("assistant", "جَمِيلٌ، وَلَذِيذٌ!"),
            ),
        )
        for c in TALKS
    ]
    finetune(base, marked[:12], marked[12:], tmp_path / "out", **SHAPE)
    stock = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (
        stock.decode(stock("جَمِيلٌ، وَلَذِيذٌ!")["input_ids"]) == "جميل، ولذيذ!"
        and stock.backend_tokenizer.normalizer.normalize_str("جميل، ولذيذ!") == "جميل ، ولذيذ !"
    )
    assert (
        json.loads((tmp_path / "out" / "training.json").read_text())["proof"]["n_stops_trained"]
        == 12
    )


def test_a_model_that_does_not_keep_rows_apart_is_trained_with_padding(
    bases, tmp_path, monkeypatch
):
    monkeypatch.setattr(finetuning, "packing_error", lambda model, rows: 0.4)
    train(bases / "gpt2", tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["packing"] is False


def test_a_dataset_of_ones_own(bases, tmp_path):
    profile = load_profile(
        "smoke", overrides=dict(finetune_steps="4", finetune_batch_size="4", max_length="96")
    )
    said = []
    rows = [
        {
            "messages": [
                {"role": "system", "content": "x"},
                *({"role": t.speaker, "content": t.text} for t in c.turns),
            ]
        }
        for c in TALKS
    ]
    save_jsonl(tmp_path / "mine.jsonl", rows)
    with pytest.raises(UserError, match="row 2.*role system.*--leave-out system"):
        finetune_own(profile, str(bases / "gpt2"), tmp_path / "mine.jsonl", tmp_path / "out0")
    mine = Source(tmp_path / "mine.jsonl", ("system",))
    counts = finetune_own(profile, str(bases / "gpt2"), mine, tmp_path / "out", say=said.append)
    assert (
        counts["n_conversations"] == 15
        and load_model(tmp_path / "out")
        and str(tmp_path) not in (tmp_path / "out" / "README.md").read_text()
    )
    with pytest.raises(UserError, match="finished training"):
        finetune_own(profile, str(bases / "gpt2"), mine, tmp_path / "out")
    for bad, message in (
        ([{"text": "x"}], "row 1 has none of the columns"),
        (rows[:1], "at least 2"),
        ([], "bad.jsonl is empty"),
    ):
        save_jsonl(tmp_path / "bad.jsonl", bad)
        with pytest.raises(UserError, match=message):
            finetune_own(profile, str(bases / "gpt2"), tmp_path / "bad.jsonl", tmp_path / "out2")
    with pytest.raises(UserError, match="knows no words"):
        finetune_own(profile, "new:gpt2", tmp_path / "mine.jsonl", tmp_path / "out2")
    with pytest.raises(UserError):
        finetune_own(profile, str(tmp_path / "nothing"), tmp_path / "mine.jsonl", tmp_path / "out3")


def test_the_command_works_under_a_launcher(bases, tmp_path):
    command = [
        str(Path(sys.executable).with_name("arabic-dialog")),
        "finetune",
        "--profile",
        "smoke",
        "--student",
        str(bases / "gpt2"),
        "--data",
        str(bases),
        "--seed",
        "0",
    ]
    for key, value in (
        ("finetune_steps", 8),
        ("finetune_learning_rate", 0.01),
        ("max_length", 96),
        ("finetune_precision", "float32"),
        ("finetune_n_evaluations", 3),
    ):
        command += ["--set", f"{key}={value}"]
    two = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "--no-python",
            "--",
            *command,
            "--out",
            str(tmp_path / "two"),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    one = subprocess.run(
        [*command, "--out", str(tmp_path / "one")], capture_output=True, text=True, timeout=240
    )
    assert two.returncode == one.returncode == 0, two.stderr[-3000:] + one.stderr[-3000:]
    assert (
        two.stdout.count("12 conversations") == 1 and (tmp_path / "two" / "README.md").is_file()
    )  # one of them speaks
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_deterministic_mode_and_schedules(bases, tmp_path):
    try:
        train(bases / "gpt2", tmp_path / "strict", deterministic=True, schedule="cosine")
    finally:
        torch.use_deterministic_algorithms(False)
    train(bases / "gpt2", tmp_path / "usual", schedule="cosine")
    train(bases / "gpt2", tmp_path / "linear")
    assert same(weights(tmp_path / "strict"), weights(tmp_path / "usual")) and not same(
        weights(tmp_path / "usual"), weights(tmp_path / "linear")
    )
