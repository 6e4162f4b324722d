"""What a plan says, for every engine and machine, and what it leaves out."""

import json

import pytest
from hypothesis import given, strategies as st

from arabic_dialog.commands import costs
from arabic_dialog.models.loading import load_checkpoints, model_facts
from arabic_dialog.core.files import find_root, save_text
from arabic_dialog.commands.costs import (
    expected_prompts,
    generation_cost,
    generation_rate,
    profile_steps,
)
from arabic_dialog.commands.doctor import missing, print_plan
from arabic_dialog.core.hardware import HARDWARE, load_hardware
from arabic_dialog.core.settings import load_profile
from arabic_dialog.core.runs import RunFolder, run_stage

JAIS = model_facts(load_checkpoints()["inceptionai/jais-13b-chat"])
PAPER = load_profile("paper")


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
        64 / read * costs.GENERATION_SHARE
    )
    laptop = HARDWARE["laptop"]
    assert generation_rate(JAIS, 57, laptop) == pytest.approx(
        costs.TRAINING_SHARE * laptop.flops / JAIS.forward_flop_per_token
    )


def test_a_batch_is_cut_to_what_fits_and_what_does_not_fit_has_no_time():
    some = ("h100", "h200", "a100", "l40s", "rtx4090", "laptop")
    assert [generation_cost(JAIS, 1, 64, HARDWARE[h]).rows for h in some] == [64, 64, 64, 33, 0, 57]
    assert generation_cost(JAIS, 1, 0, HARDWARE["h200"]).rows == 175  # as many as fit
    for h in HARDWARE.values():
        c = generation_cost(JAIS, 1, 64, h)
        assert (c.hours is None) == (h.memory < 26e9) and (c.memory <= h.memory) == bool(c.rows)
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
        ("train", ["fine-tune × 2", "aragpt2-mega"], ["compare", "Qwen"]),
        ("scores", ["fine-tune × 2", "compare", "Qwen"], []),
        ("report", ["fine-tune × 2", "compare", "Qwen"], []),
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
        and "26.9 million written" in text
        and "at your endpoint's price" in text
        and "api.example.org" in text
        and "secret" not in text
    )
    assert (
        not any(w in text for w in ("GPU", "kWh", "download"))
        and missing(served, find_root(), "split") == []
    )


def test_a_cluster_shares_the_hours():
    alone, cluster = (
        plan(until="split", hardware=load_hardware("a100"))[1],
        plan(
            PAPER.model_copy(update={"engine": "ray", "actors": 4}),
            until="split",
            hardware=load_hardware("a100"),
        ),
    )
    assert (
        "6.2 hours of one A100" in alone
        and "6.2 hours of one A100" in cluster[1]
        and "1.5 hours with 4 actors" in cluster[1]
    )
    assert cluster[0]  # its machines are not this one


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
