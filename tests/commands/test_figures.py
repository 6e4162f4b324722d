"""What a plan had said, and what a run on this processor took: within 15 %."""

import json
from pathlib import Path

import pytest

from arabic_dialog.commands.figures import compare_figures, figure_lines
from arabic_dialog.commands.figures import planned_figures, run_figures
from arabic_dialog.core.files import data_path, load_jsonl, save_jsonl
from arabic_dialog.core.records import Completion, Conversation
from arabic_dialog.core.runs import RunFolder, Work
from arabic_dialog.core.settings import load_profile
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.finetuning.train import make_students
from arabic_dialog.generation.dataset import Generator, make_completions
from arabic_dialog.generation.forecast import forecast, with_pilot
from arabic_dialog.models.loading import new_model

TALKS = load_jsonl(data_path("sample", "conversations.jsonl"), Conversation)
SAID = load_jsonl(data_path("sample", "completions.jsonl"), Completion)
WITHIN = {"rows", "memory", "tokens", "disk"}


class Here:
    def call(self, do, job):
        return do(job)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*(c.prompt for c in SAID), *(c.text for c in SAID)], 900)


def small(folder, tokenizer, kind, layers, width, context):
    new_model(kind, tokenizer, layers, width, 2, context, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def changed(**values):
    return load_profile("smoke").model_copy(update=values)


@pytest.mark.parametrize("kind, n, rows", [("jais", 24, 0), ("gpt2", 12, 4)])
def test_completions_take_what_the_plan_had_said(tmp_path, tokenizer, kind, n, rows):
    generator = small(tmp_path / "generator", tokenizer, kind, 2, 64, 1024)
    profile = changed(
        engine="transformers",
        generator=generator,
        n_scenarios=n,
        attempts=1,
        max_new_tokens=30,
        generation_batch_size=rows,
        temperature=1.0,
        repetition_penalty=1.0,
    )
    planned = planned_figures(profile, until="split")
    work = Work(profile, RunFolder(tmp_path / "run"), say=lambda line: None)
    make_completions(Generator(work))
    table = compare_figures(planned, run_figures(tmp_path / "run", profile))
    ratios = {name: ratio for _, _, name, _, _, ratio in table}
    assert ratios.keys() == WITHIN
    # an untrained model writes other text than conversations: its bytes are not those of a plan
    assert all(abs(ratios[name] - 1) < 0.15 for name in WITHIN - {"disk"}), figure_lines(table)


def test_a_pilot_takes_the_place_of_what_was_assumed(tmp_path):
    from arabic_dialog.core.files import find_root
    from arabic_dialog.core.runs import run_stage

    profile, root = changed(engine="transformers", generator="owner/model"), find_root()
    before = forecast(profile, root)
    assert (before.tokens_from, before.acceptance_from) == ("assumed", "assumed")

    def complete(path):
        save_jsonl(path / "completions.jsonl", SAID)
        return {"completions": len(SAID)}

    def check(path):
        save_jsonl(path / "conversations.jsonl", TALKS)
        return {"accepted": len(TALKS), "attempts": 2 * len(TALKS)}

    run = RunFolder(tmp_path / "run")
    run_stage(run, "complete", complete)
    run_stage(run, "check", check)
    assert with_pilot(before, profile, root, run.path) == before  # whose it is, is not known
    config = profile.model_dump(mode="json", by_alias=True)
    (run.path / "run.json").write_text(json.dumps({"config": config}), encoding="utf-8")
    after = with_pilot(before, profile, root, run.path)
    assert (after.acceptance, after.acceptance_from) == (0.5, "a pilot")
    assert after.asked > before.asked and after.tokens_from == "assumed"
    lines = (run.path / "complete/completions.jsonl").read_bytes()
    assert after.completion_bytes == pytest.approx(len(lines) / len(SAID), rel=0.001)
    other = profile.model_copy(update={"generator": "another/model"})
    assert with_pilot(before, other, root, run.path) == before


def test_prompts_are_counted_in_the_generators_own_tokens(tmp_path, tokenizer):
    from arabic_dialog.core.files import find_root

    generator = small(tmp_path / "generator", tokenizer, "gpt2", 1, 32, 1024)
    counted = forecast(changed(generator=generator, engine="transformers"), find_root())
    assert counted.tokens_from == "its tokenizer" and counted.longest > counted.prompt > 100
    talk = sum(len(tokenizer(c.text)["input_ids"]) for c in SAID) / len(SAID)
    assert 0.7 < counted.written / talk < 1.5


@pytest.mark.parametrize("rates", [(), (1e-3, 1e-2)])
def test_trainings_take_what_the_plan_had_said(tmp_path, tokenizer, rates):
    start = small(tmp_path / "student", tokenizer, "gpt2", 2, 64, 512)
    profile = changed(
        students=("mine",),
        checkpoints=(start,),
        revisions=(),
        control_student="",
        seeds=(0,),
        finetune_steps=2,
        finetune_batch_size=4,
        max_length=256,
        sweep_learning_rates=rates,
        sweep_steps=2,
        workers=1,
    )
    work = Work(profile, RunFolder(tmp_path / "run"), say=lambda line: None)

    def write_split(path: Path):
        save_jsonl(path / "train.jsonl", TALKS[:16])
        save_jsonl(path / "validation.jsonl", TALKS[16:])
        return {}

    planned = planned_figures(profile, until="train")
    make_students(work, Here(), work.stage("split", write_split))
    table = compare_figures(planned, run_figures(tmp_path / "run", profile))
    assert {row[2] for row in table} == {"rows", "memory"}
    assert all(abs(row[-1] - 1) < 0.15 for row in table), figure_lines(table)
    trained = json.loads((tmp_path / "run/train/mine-finetuned-s0/training.json").read_text())
    assert trained["learning_rate"] in (rates or (profile.finetune_learning_rate,))
    if rates:
        trials = sorted(p.name for p in (tmp_path / "run/sweep").iterdir())
        assert trials == ["choice", "mine-0.001", "mine-0.01"]
        again = make_students(work, Here(), work.stage("split", write_split))
        assert again["mine-finetuned-s0"][1].cached
        assert not list((tmp_path / "run/sweep").rglob("*.safetensors"))
