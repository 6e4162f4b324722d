"""Evaluating checkpoints outside a run: its files, what it leaves and finds again, and refuses."""

import json

import pandas as pd
import pytest

from arabic_dialog.commands import evaluate as ev
from arabic_dialog.core.files import save_jsonl
from arabic_dialog.core.records import UserError
from arabic_dialog.commands.costs import find_facts
from arabic_dialog.core.hardware import load_hardware
from arabic_dialog.core.settings import load_profile
from arabic_dialog.metrics.spoiling import sample_conversations

CONVERSATIONS = sample_conversations(5, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from arabic_dialog.models.loading import new_model
    from arabic_dialog.finetuning.students import train_tokenizer

    path = tmp_path_factory.mktemp("evaluation")
    tokenizer = train_tokenizer((t.text for c in CONVERSATIONS for t in c.turns), 500)
    for s in (0, 1):
        new_model("gpt2", tokenizer, 1, 32, 2, 512, s).save_pretrained(path / f"m-finetuned-s{s}")
        tokenizer.save_pretrained(path / f"m-finetuned-s{s}")
    save_jsonl(path / "ours.jsonl", CONVERSATIONS)
    save_jsonl(
        path / "messages.jsonl",
        [
            {
                "messages": [{"role": "system", "content": "أجب."}]
                + [{"role": t.speaker, "content": t.text} for t in c.turns]
            }
            for c in CONVERSATIONS
        ],
    )
    save_jsonl(
        path / "sharegpt.jsonl",
        [
            {
                "id": 7,
                "conversations": [
                    {"from": {"user": "human", "assistant": "gpt"}[t.speaker], "value": t.text}
                    for t in c.turns
                ],
            }
            for c in CONVERSATIONS
        ],
    )
    return path


def evaluate(folder, to, data="ours.jsonl", seeds=(0, 1), **choices):
    return ev.evaluate(
        [str(folder / f"m-finetuned-s{s}") for s in seeds],
        folder / data,
        to,
        load_profile("smoke", overrides={"reply_max_new_tokens": "4"}),
        ev.Choices(**choices),
        say=lambda line: None,
    )


def test_three_kinds_of_files_say_the_same(folder):
    a, b, c = (
        ev.conversations_to_answer(folder / f"{n}.jsonl") for n in ("ours", "messages", "sharegpt")
    )
    assert a == CONVERSATIONS and [x.turns for x in a] == [x.turns for x in b] == [
        x.turns for x in c
    ]
    assert len({x.id for x in b}) == len({x.id for x in c}) == 5


@pytest.mark.parametrize(
    "line, said",
    [
        ({"text": "نعم"}, "none of the columns"),
        ({"messages": []}, r"messages is \[\], and should be a list of turns"),
        ({"messages": ["نعم"]}, "turn 1 is 'نعم', and should be an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "turn 1 is of a tool"),
        ({"messages": [{"role": "assistant", "content": "نعم"}]}, "the user first"),
        ({"messages": [{"role": "user", "content": "هل؟"}] * 2}, "speak in turn"),
        ({"messages": [{"role": "user", "content": "هل؟"}]}, "no assistant turn"),
        ({"id": "x", "turns": []}, r"turns is \[\], and should be"),
    ],
)
def test_a_line_that_is_no_conversation_is_named(line, said, tmp_path):
    save_jsonl(tmp_path / "f.jsonl", [line])
    with pytest.raises(UserError, match=said) as e:
        ev.conversations_to_answer(tmp_path / "f.jsonl")
    assert "f.jsonl" in str(e.value)


def test_an_evaluation_leaves_its_tables_and_finds_its_replies_again(folder, tmp_path, monkeypatch):
    from arabic_dialog.models import loading as architectures

    first = evaluate(
        folder, tmp_path / "out", histories=("true", "own"), train=folder / "ours.jsonl"
    )
    scores = pd.read_csv(tmp_path / "out/scores.csv")
    assert set(scores.model) == {"m-finetuned", "reference", "retrieval"} and set(scores.seed) == {
        0,
        1,
    }
    assert {"own_raven", "raven", "on_both", "nll"} <= set(scores.metric) and set(
        pd.read_csv(tmp_path / "out/comparisons.csv").metric
    ) == {"raven", "own_raven"}
    monkeypatch.setattr(architectures, "load_model", None)  # no model is loaded again
    assert evaluate(
        folder, tmp_path / "out", histories=("true", "own"), train=folder / "ours.jsonl"
    ).equals(first)
    assert set(evaluate(folder, tmp_path / "out", n=2).n) != set(first.n)


def test_one_conversation_and_one_model_have_values_without_intervals(folder, tmp_path):
    table = evaluate(folder, tmp_path / "out", n=1, seeds=(0,))
    assert (
        table.value.notna().all()
        and table.low.isna().all()
        and pd.read_csv(tmp_path / "out/comparisons.csv").empty
    )
    said = []
    ev.print_evaluation(table, said.append)
    assert len(said) == 3 and "[" not in said[1]


def test_empty_true_replies_are_scored_and_have_no_bits_a_byte(folder, tmp_path):
    save_jsonl(
        tmp_path / "empty.jsonl",
        [{"messages": [{"role": "user", "content": "هل؟"}, {"role": "assistant", "content": ""}]}]
        * 2,
    )
    table = (
        ev.evaluate(
            [str(folder / "m-finetuned-s0")],
            tmp_path / "empty.jsonl",
            tmp_path / "out",
            load_profile("smoke"),
            say=lambda line: None,
        )
        .set_index(["model", "metric"])
        .value
    )
    assert (
        table["m-finetuned", "bits_per_byte"] != table["m-finetuned", "bits_per_byte"]
        and table["m-finetuned", "perplexity"] > 1
        and table["reference", "raven"] == 0
    )


def test_what_cannot_be_evaluated_is_said(folder, tmp_path):
    evaluate(folder, tmp_path / "out", seeds=(0,), n=1)
    for data, models, said in (
        ("messages.jsonl", ["m-finetuned-s0"], "other conversations"),
        ("none.jsonl", ["m-finetuned-s0"], "there is no file"),
        ("ours.jsonl", [], "at least one model"),
        ("ours.jsonl", ["m-finetuned-s0"] * 2, "would both be called"),
        ("ours.jsonl", ["none"], "no checkpoint folder"),
    ):
        with pytest.raises(UserError, match=said):
            ev.evaluate(
                [str(folder / m) for m in models],
                folder / data,
                tmp_path / "out",
                load_profile("smoke"),
                say=lambda line: None,
            )


def test_a_plan_counts_the_file_and_knows_every_model_of_the_profiles(folder):
    from arabic_dialog.metrics.replies import select_test_turns

    for name in ("offline", "paper", "smoke"):
        said = []
        plan = ev.plan_evaluation(load_profile(name), load_hardware("h100"))
        ev.print_evaluation_plan(plan, said.append)
        text = "\n".join(said)
        assert "unknown" not in text and "does not fit" not in text and "replies" in text
    items = select_test_turns(CONVERSATIONS)
    work = ev.workload(load_profile("offline"), items)
    most = load_profile("offline").reply_num_beams
    assert (
        work.replies == len(items)
        and work.measured
        and work.written == most * sum(max(1, round(len(i.reply.text.encode()) / 8)) for i in items)
    )
    toy = load_hardware("rtx4090")
    facts = find_facts("inceptionai/jais-13b-chat", load_profile("paper"))
    assert ev.evaluation_cost(facts, work, toy).hours is None
    small, large = (
        ev.evaluation_cost(find_facts(m, load_profile("paper")), work).hours
        for m in ("aubmindlab/aragpt2-base", "aubmindlab/aragpt2-mega")
    )
    assert small < large


def test_the_command_evaluates_plans_and_refuses(folder, tmp_path):
    from typer.testing import CliRunner
    from arabic_dialog.commands.cli import app

    def command(*args):
        return CliRunner().invoke(app, ["evaluate", *map(str, args)])

    asked = [
        "--model",
        folder / "m-finetuned-s0",
        "--data",
        folder / "messages.jsonl",
        "--to",
        tmp_path / "out",
        "--profile",
        "smoke",
        "--n",
        2,
        "--leave-out",
        "system",
    ]
    plan = command(*asked, "--plan", "--hardware", "laptop")
    assert (
        plan.exit_code == 0
        and "m-finetuned-s0" in plan.stdout
        and "laptop" in plan.stdout
        and not (tmp_path / "out").exists()
    )
    done = command(*asked)
    assert done.exit_code == 0 and "m-finetuned" in done.stdout and "perplexity" in done.stdout, (
        done.stdout
    )
    assert json.loads((tmp_path / "out/evaluation.json").read_text(encoding="utf-8"))["n"] == 2
    for args, said in (
        (["--data", "x"], "go with --model"),
        (["--model", "a/b", "--model", "a/c", "--revision", "x"], "of one model"),
        (["--model", "a/b", "--run", tmp_path], "name conversations with --data"),
        (["--profile", "smoke", "--plan", "--hardware", "abacus"], "'abacus'"),
    ):
        assert isinstance(e := command(*args).exception, UserError) and said in str(e)
