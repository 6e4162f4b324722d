"""What a plan says, for every engine and machine, and what it leaves out."""

import json

import pytest
from hypothesis import given, strategies as st

from arabic_dialog.commands import costs
from arabic_dialog.models.loading import load_checkpoints, model_facts
from arabic_dialog.core.files import find_root, save_text
from arabic_dialog.commands.costs import disk_needs, n_trainings, profile_steps, training_jobs
from arabic_dialog.core.memory import decoding_memory, fitting_rows
from arabic_dialog.generation import speed
from arabic_dialog.generation.forecast import expected_prompts, forecast
from arabic_dialog.generation.speed import generation_cost, generation_rate
from arabic_dialog.commands.doctor import missing, print_plan
from arabic_dialog.core.hardware import HARDWARE, load_hardware
from arabic_dialog.core.settings import load_profile
from arabic_dialog.core.runs import RunFolder, run_stage

JAIS = model_facts(load_checkpoints()["inceptionai/jais-13b-chat"])
PAPER = load_profile("paper")
EXPECTED = forecast(PAPER, find_root())


def plan(profile=PAPER, **k):
    said = []
    able = print_plan(profile, said.append, **k)
    return able, "\n".join(said).split("\n", 1)[1]  # without the profile's description


@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.05, 1))
def test_prompts_are_between_one_and_all_attempts_for_each(n, attempts, acceptance):
    asked, kept = expected_prompts(n, attempts, acceptance)
    assert (
        n - 1 <= asked <= attempts * n + 1
        and kept <= min(n, asked)
        and abs(kept - acceptance * asked) <= 1
    )


def test_expected_prompts_are_those_of_a_simulation():
    import random

    rng, asked, kept = random.Random(0), 0, 0
    for _ in range(20_000):
        for _ in range(3):
            asked += 1
            if rng.random() < 0.8:
                kept += 1
                break
    expected = expected_prompts(20_000, 3)
    assert abs(asked / expected[0] - 1) < 0.01 and abs(kept / expected[1] - 1) < 0.01


def test_decoding_is_bound_by_memory_on_a_gpu_and_by_arithmetic_where_that_is_slower():
    read = (
        JAIS.weight_bytes + 64 * 550 * JAIS.kv_bytes_per_token
    ) / 3.0e12  # seconds a step, by hand
    assert generation_rate(JAIS, 64, HARDWARE["h100"]) == pytest.approx(
        64 / read * speed.GENERATION_SHARE
    )
    laptop = HARDWARE["laptop"]
    assert generation_rate(JAIS, 57, laptop) == pytest.approx(
        speed.TRAINING_SHARE * laptop.flops / JAIS.forward_flop_per_token
    )


def test_rows_are_those_of_the_engine_and_what_does_not_fit_has_no_time():
    some = ("h100", "h200", "a100", "l40s", "rtx4090", "laptop")
    costs_of = {h: generation_cost(JAIS, EXPECTED, 64, HARDWARE[h]) for h in some}
    assert [costs_of[h].rows for h in some] == [32, 64, 32, 16, 0, 16]
    for h, cost in costs_of.items():
        machine = HARDWARE[h]
        free, n_tokens = machine.memory - JAIS.weight_bytes, EXPECTED.longest + 1024
        kind, longest = machine.kind, EXPECTED.longest
        assert cost.rows == fitting_rows(JAIS, 64, n_tokens, longest, free, kind)
        rows = max(cost.rows, 1)
        assert cost.memory == decoding_memory(JAIS, rows, n_tokens, longest).total
        assert (cost.hours is None) == (not cost.rows) == (cost.memory > machine.memory)
    found = generation_cost(JAIS, EXPECTED, 0, HARDWARE["h100"]).rows
    assert 32 < found < 64  # as many as fit, and hours follow them
    slower, faster = (generation_cost(JAIS, EXPECTED, n, HARDWARE["h100"]).hours for n in (8, 0))
    assert slower > 2 * faster


def test_a_plan_for_a_machine_that_cannot_hold_a_model_adds_no_hours_up():
    able, text = plan(hardware=load_hardware("rtx3060"))
    assert "no sum of hours: one RTX 3060 (12 GB) cannot hold inceptionai/jais-13b-chat" in text
    assert "together" not in text and "does not fit" in text
    assert "together with the dataset" in plan()[1]
    fourbit = PAPER.model_copy(update={"generator_dtype": "nf4", "finetune_method": "lora"})
    assert "together with the dataset" in plan(fourbit, hardware=load_hardware("rtx4090"))[1]


def test_the_disk_counts_states_of_training_raw_completions_and_replies():
    needs = disk_needs(PAPER, find_root())
    mega = model_facts(load_checkpoints()["aubmindlab/aragpt2-mega"]).parameters
    arabiangpt = model_facts(load_checkpoints()["riotu-lab/ArabianGPT-08B-V2"]).parameters
    assert needs["training under way, at most"] == 3 * 12 * mega
    assert n_trainings(PAPER, "arabiangpt") == 6 and n_trainings(PAPER, "aragpt2") == 3
    assert needs["checkpoints"] == 4 * (6 * arabiangpt + 3 * mega)
    assert needs["raw completions"] == 2 * EXPECTED.asked * EXPECTED.completion_bytes
    assert needs["replies"] > 0 and "replies" not in disk_needs(PAPER, find_root(), "train")


def test_the_sweep_is_planned_and_named_baselines_have_sizes():
    jobs = [(j.what, j.times, j.steps) for j in training_jobs(PAPER)]
    assert jobs == [("sweep", 4, 1000), ("fine-tune", 6, 8000)] + [
        ("sweep", 4, 1000),
        ("fine-tune", 3, 8000),
    ]
    assert "sweep × 4" in plan(until="sweep")[1] and "fine-tune ×" not in plan(until="sweep")[1]
    named = ("google/gemma-3-1b-it", "some/one")
    text = plan(PAPER.model_copy(update={"baselines": named}))[1]
    (gemma,) = (line for line in text.splitlines() if "compare        google" in line)
    (unknown,) = (line for line in text.splitlines() if "compare        some/one" in line)
    assert "2.0 GB" in gemma and unknown.split()[2:] == ["unknown"] * 5


def test_a_card_without_bfloat16_is_told_of_float16():
    small = PAPER.model_copy(update={"generator": "aubmindlab/aragpt2-mega"})
    assert "set generator_dtype to float16" in plan(small, hardware=HARDWARE["t4"])[1]
    assert "set generator_dtype to float16" not in plan(small, hardware=HARDWARE["l4"])[1]


def test_a_model_that_is_too_large_says_what_would_help():
    able, text = plan(until="split", hardware=load_hardware("rtx4090"))
    assert (
        "it does not fit into one RTX 4090 (24 GB), which has 24 GB; choose other hardware" in text
        and not able
    )
    assert (
        "set generator_dtype to bfloat16"
        in plan(
            PAPER.model_copy(update={"generator_dtype": ""}),
            until="split",
            hardware=load_hardware("l40s"),
        )[1]
    )


@pytest.mark.parametrize(
    "until, seen, unseen",
    [
        ("split", [], ["fine-tune", "compare", "checkpoints\n"]),
        ("sweep", ["sweep × 4", "aragpt2-mega"], ["compare", "fine-tune ×"]),
        ("train", ["fine-tune × 6", "aragpt2-mega"], ["compare", "Qwen"]),
        ("scores", ["fine-tune × 6", "compare", "Qwen"], []),
        ("report", ["fine-tune × 6", "compare", "Qwen"], []),
    ],
)
def test_a_plan_shows_what_its_command_needs_and_no_more(until, seen, unseen):
    text = plan(until=until)[1]
    assert (
        "inceptionai/jais-13b-chat in bfloat16" in text
        and all(s in text for s in seen)
        and not any(s in text for s in unseen)
    )
    assert ("riotu-lab" in text) == (until != "split")
    assert max(map(len, text.split("Missing")[0].splitlines())) <= 140


def test_the_embedded_engine_needs_nothing():
    able, text = plan(load_profile("offline"), until="split")
    assert (
        able and "no GPU, no download" in text and "GPU hours" not in text and "tokens" not in text
    )


def test_an_endpoint_is_planned_by_its_tokens_and_asks_nothing_of_this_machine():
    served = PAPER.model_copy(
        update={
            "engine": "openai",
            "generator": "a-model",
            "endpoints": ("https://me:secret@api.example.org/v1",),
        }
    )
    able, text = plan(served, until="split")
    assert (
        able
        and "27.1 million written" in text
        and "at your endpoint's price" in text
        and "api.example.org" in text
        and "secret" not in text
    )
    assert (
        not any(w in text for w in ("GPU", "kWh", "download"))
        and missing(served, find_root(), "split") == []
    )


def test_a_cluster_shares_the_hours():
    a100 = load_hardware("a100")
    hours = generation_cost(JAIS, EXPECTED, 0, a100).hours
    alone = plan(until="split", hardware=a100)[1]
    four = PAPER.model_copy(update={"engine": "ray", "actors": 4})
    able, shared = plan(four, until="split", hardware=a100)
    assert f"{hours:.1f} hours of one A100" in alone and f"{hours:.1f} hours of one A100" in shared
    assert f"{hours / 4:.1f} hours with 4 actors" in shared
    assert able  # its machines are not this one


def test_a_measured_speed_takes_the_place_of_the_formula(tmp_path):
    run = RunFolder(tmp_path)
    run_stage(
        run,
        "complete",
        lambda p: (
            save_text(p / "completions.jsonl", "")
            and {"completions": 10, "tokens_per_second": 1000}
        ),
    )
    assert costs.load_rate(tmp_path, PAPER) is None  # whose speed it is, is not known
    save_text(
        tmp_path / "run.json", json.dumps({"config": PAPER.model_dump(mode="json", by_alias=True)})
    )
    text = plan(until="split", run=tmp_path)[1]
    assert (
        "1,000 tokens/s: measured in this run" in text
        and "7.5 hours of the machine that was measured" in text
    )
    assert (
        costs.load_rate(tmp_path, PAPER.model_copy(update={"generator": "another/model"})) is None
        and costs.load_rate(tmp_path / "none", PAPER) is None
    )
    assert (
        "measured in this run"
        not in plan(
            PAPER.model_copy(update={"generation_batch_size": 8}), until="split", run=tmp_path
        )[1]
    )


def test_a_generator_that_is_a_folder_or_unknown_is_said_to_be(tmp_path):
    save_text(
        tmp_path / "config.json",
        json.dumps(
            {
                "model_type": "gpt2",
                "n_embd": 768,
                "n_layer": 12,
                "n_head": 12,
                "vocab_size": 64000,
                "n_positions": 1024,
            }
        ),
    )
    folder = PAPER.model_copy(update={"generator": str(tmp_path)})
    assert not plan(folder, until="split")[0]  # a config without weights is no model
    save_text(tmp_path / "model.safetensors", "weights")
    able, text = plan(folder, until="split")
    assert (
        able and "tokens/s: 60% of its memory's speed" in text
    )  # small enough for any machine, and nothing to download
    assert (
        "neither size nor speed is known here"
        in plan(PAPER.model_copy(update={"generator": "some/one"}), until="split")[1]
    )
    assert (
        profile_steps(
            PAPER.model_copy(update={"generator": "some/one"}), find_root(), until="split"
        )[0].cost.hours
        is None
    )
