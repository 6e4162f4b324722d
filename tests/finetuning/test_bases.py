"The bases of this package: what they read, that they can be had again, that they are as told"

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arabic_dialog.core.files import data_path, stream
from arabic_dialog.core.hub import folder_of, lacking, model_identity, named_models, shown_name
from arabic_dialog.core.records import Conversation, UserError
from arabic_dialog.core.settings import load_profile
from arabic_dialog.finetuning.bases import (
    LOSS_TOLERANCE,
    BaseReader,
    base_faults,
    load_base,
    make_base,
    mean_loss,
    n_learned,
    opening_tokens,
    optimisers,
    rate_share,
    repeat_first_steps,
    row_loss,
)
from arabic_dialog.finetuning.masking import UNTRAINED
from arabic_dialog.finetuning.prose import (
    HEADING_COUNTS,
    Position,
    Prose,
    as_prose,
    batches,
    answer_row,
    grouped_rows,
    prose_rows,
    learn_words,
    load_recipe,
    load_recipes,
    overlap,
    run_conversations,
)
from arabic_dialog.finetuning.students import FIXED_TOKENS
from arabic_dialog.generation.scenarios import draw_n_turns
from arabic_dialog.models.licences import licence_of, terms_of
from arabic_dialog.models.loading import load_model, new_model
from arabic_dialog.models.tokenizers import ROLE_TOKENS, load_tokenizer

OURS = ("arabiangpt", "aragpt2")
TINY = load_recipe("tiny")


@pytest.fixture(scope="module")
def prose():
    return Prose.of(TINY)


@pytest.fixture(scope="module")
def words(prose):
    return learn_words(prose)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    make_base("tiny", TINY, folder, say=lambda line: None)
    return folder


@pytest.mark.parametrize("name", OURS)
def test_the_committed_base_is_what_it_says(name):
    folder = data_path("bases", name)
    assert base_faults(folder) == []
    assert load_base(folder)["name"] == name
    assert load_base(folder)["recipe"]["architecture"] == load_recipe(name).architecture


def test_the_committed_bases_are_small():
    files = [p for name in OURS for p in data_path("bases", name).iterdir()]
    assert sum(p.stat().st_size for p in files) <= 12e6


@pytest.mark.parametrize("name", OURS)
def test_the_first_steps_give_the_recorded_losses(name):
    about = load_base(data_path("bases", name))
    pairs = repeat_first_steps(data_path("bases", name))
    assert len(pairs) == 10
    assert [told for told, _ in pairs] == about["first_losses"][:10]
    for told, today in pairs:
        assert today == pytest.approx(told, rel=LOSS_TOLERANCE)


@pytest.mark.parametrize("name", OURS)
def test_no_first_step_holds_a_role_token(name):
    tokenizer = load_tokenizer(data_path("bases", name))
    roles = {tokenizer.convert_tokens_to_ids(token) for token in (*ROLE_TOKENS, "<|pad|>")}
    lines = (data_path("bases", name) / "first_steps.jsonl").read_text(encoding="utf-8")
    steps = [json.loads(line) for line in lines.splitlines()]
    read = {i for step in steps for row in step["rows"] for i in row["input_ids"]}
    assert len(read) > 100 and not read & roles


@pytest.mark.parametrize("name", OURS)
def test_tokens_that_were_never_read_are_as_told(name):
    folder = data_path("bases", name)
    model, tokenizer = load_model(folder, device="cpu"), load_tokenizer(folder)
    unread = load_base(folder)["unread_tokens"]
    assert unread == [token for token in FIXED_TOKENS if token != tokenizer.eos_token]
    table = model.get_input_embeddings().weight
    mean = table[opening_tokens(tokenizer)].mean(0)
    for token in unread:
        assert torch.allclose(table[tokenizer.convert_tokens_to_ids(token)], mean, atol=2e-3)


@pytest.mark.parametrize("name", OURS)
def test_a_profile_finds_a_base_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    profile = load_profile("offline")
    assert f"data/bases/{name}" in profile.checkpoints
    use = next(u for u in named_models(profile) if u.name == f"data/bases/{name}")
    assert use.is_folder and lacking(use.name) == ""
    assert folder_of(use.name) == data_path("bases", name)
    assert model_identity(use.name) == model_identity(data_path("bases", name))
    assert shown_name(use.name) == f"this package's base {name}"
    assert licence_of(use.name) == "apache-2.0" and "Apache" in terms_of(use.name)


def test_a_folder_of_ones_own_with_a_bases_name_has_no_known_licence(tmp_path):
    assert licence_of(str(tmp_path / "aragpt2")) == "other"


def test_a_processor_computes_halves_in_float32(made):
    assert load_model(made, device="cpu").dtype == torch.float32
    assert load_model(made, "float16", device="cpu").dtype == torch.float16
    assert load_model(made, "bfloat16", device="cpu").dtype == torch.bfloat16


def test_other_halves_are_loaded_as_stored(made, tmp_path):
    load_model(made, "bfloat16", device="cpu").save_pretrained(tmp_path)
    assert load_model(tmp_path, device="cpu").dtype == torch.bfloat16


def test_prose_holds_no_role_token_and_no_frame(prose):
    texts = [*prose.portion(0), *prose.portion(3), *prose.held()]
    whole = "\n".join(texts)
    assert not any(token in whole for token in FIXED_TOKENS)
    assert "<|" not in whole and "[|" not in whole
    talks = [t for t in texts if t.startswith("— ")]
    assert talks and all(line.startswith("— ") for t in talks for line in t.splitlines())


def test_no_conversation_of_a_run_stands_in_the_text(prose):
    grammar, run = prose.grammar, []
    for s in prose.scenarios:
        turns = grammar.dialogue(*s.cell, stream(0, "embedded", s.id), draw_n_turns(s))
        run.append(Conversation(s.id, s, turns, "embedded-grammar"))
        assert as_prose(turns) == run_conversations(grammar, s)[0]
    texts = [t for k in range(40) for t in prose.portion(k)]
    found = overlap(texts, run)
    assert found.whole == 0 and found.conversations == len(run)
    assert overlap([as_prose(run[0].turns)], run).whole == 1


def test_a_conversation_that_a_run_has_is_written_again(prose, monkeypatch):
    scenario = prose.scenarios[0]
    first = prose.text("conversation", scenario, 0, 0)
    taken = lambda grammar, scenario: [first]  # noqa: E731
    monkeypatch.setattr("arabic_dialog.finetuning.prose.run_conversations", taken)
    assert prose.text("conversation", scenario, 0, 0) != first


def test_reading_goes_on_from_any_step(prose, words):
    steps = list(batches(prose, words, Position()))
    assert len(steps) == TINY.all_steps
    for k in (0, 17, 58, 59, 60, 71):
        assert list(batches(prose, words, steps[k][1])) == steps[k + 1 :]


def test_conversations_come_when_the_recipe_says(prose, words):
    dash = words.convert_tokens_to_ids(words.tokenize("—"))[0]
    first = replace(TINY, headings_until=0.0, answer_steps=(), answer_learning_rates=())
    never = replace(prose, recipe=replace(first, conversations_from=1.0))
    assert not any(dash in row.ids for rows, _ in batches(never, words, Position()) for row in rows)
    always = replace(prose, recipe=replace(first, conversations_from=0.0))
    assert any(dash in row.ids for rows, _ in batches(always, words, Position()) for row in rows)


TALK = "— هل في مصر أنهار؟\n— نعم، منها نهر النيل.\n— شكرًا.\n— عفوًا."


def test_of_a_conversation_the_answers_are_learned(words):
    row = answer_row(words, TALK, 128)
    assert all(label in (UNTRAINED, i) for label, i in zip(row.labels, row.ids, strict=True))
    assert words.decode(row.ids) == TALK + words.eos_token
    learned = words.decode([label for label in row.labels if label != UNTRAINED])
    assert learned == "— نعم، منها نهر النيل.\n— عفوًا." + words.eos_token


def test_a_batch_of_the_second_reading_holds_whole_conversations(prose, words):
    rows = [answer_row(words, text, TINY.context) for text in prose.answers(3)]
    made = grouped_rows(rows, TINY.answer_tokens, stream(0, "test"))
    read = [row for batch in made for row in batch]
    assert sorted(row.ids for row in read) == sorted(row.ids for row in rows)
    for batch in made:
        longest = max(len(row.ids) for row in batch)
        assert len(batch) == 1 or len(batch) * longest <= TINY.answer_tokens


def test_answers_are_read_after_the_first_reading(prose, words):
    read = [(rows, place) for rows, place in batches(prose, words, Position())]
    first, second = read[: TINY.steps], read[TINY.steps :]
    assert len(second) == sum(TINY.answer_steps) > 0
    assert all(row.labels == row.ids for rows, _ in first for row in rows)
    assert all(UNTRAINED in row.labels for rows, _ in second for row in rows)
    assert [place.step for _, place in read] == list(range(1, TINY.all_steps + 1))
    assert second[0][1].portion == 0
    assert not {t for k in range(20) for t in prose.portion(k)} & set(prose.answers(0))
    assert TINY.in_steps(8).all_steps == 8 and TINY.in_steps(1).steps == 1
    assert [(r.begin, r.end) for r in TINY.readings] == [(0, 60), (60, 72), (72, 80)]


def test_each_reading_has_a_rate_of_its_own(words):
    own = dict(answer_steps=(4, 2), answer_learning_rates=(7e-3, 1e-3), warmup_share=0.25)
    recipe = replace(TINY, steps=2, **own)
    reader, rows = BaseReader(recipe, words), [answer_row(words, TALK, 128)]
    rates = []
    for number in range(recipe.all_steps):
        reader.step(number, rows)
        rates.append(reader.optimisers[0].param_groups[0]["lr"])
    assert rates[0] == TINY.learning_rate and rates[2] == 7e-3 and rates[6] == 1e-3
    assert rates[5] < 3e-3
    with pytest.raises(UserError, match="should be equally many"):
        replace(recipe, answer_steps=(4,))


def test_what_is_not_learned_weighs_nothing(prose, words):
    model = new_model("gpt2", words, 1, 32, 2, 128, seed=0)
    rows = [answer_row(words, TALK, 128), *prose_rows(words, [TALK], 8, stream(0, "test"))]
    both, one, other = (
        float(row_loss(model, some).detach()) for some in (rows, rows[:1], rows[1:])
    )
    n_one, n_other = n_learned(rows[:1]), n_learned(rows[1:])
    assert both == pytest.approx((one * n_one + other * n_other) / (n_one + n_other), rel=1e-5)
    assert mean_loss(model, rows, at_once=1) == pytest.approx(both, rel=1e-5)


def test_headings_come_first_and_name_a_topic_and_a_country_again_and_again(prose):
    recipe, n = prose.recipe, len(prose.portion(0, 0))
    assert recipe.texts_at(0) == {"headings": recipe.headings} and n == 128 * recipe.headings
    assert set(recipe.texts_at(recipe.steps - 1)) > {"headings", "statement", "conversation"}
    for scenario in prose.scenarios[:40]:
        lines = prose.text("headings", scenario, 0, 0).splitlines()
        place = prose.grammar.countries[scenario.country].facts["country"].removeprefix("ال")
        topic = prose.grammar.lexica[scenario.topic].name.removeprefix("ال")
        assert len(lines) in HEADING_COUNTS and all(topic in line for line in lines)
        assert all(place in line for line in lines)
    with pytest.raises(UserError, match="headings is 3, and there are no heading_lines"):
        replace(recipe, heading_lines=())


KILLED = """
import sys
from arabic_dialog.finetuning import bases
from arabic_dialog.finetuning.prose import load_recipe
step = bases.BaseReader.step
def dying(self, number, rows):
    if number == 33:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, number, rows)
bases.BaseReader.step = dying
bases.make_base("tiny", load_recipe("tiny"), sys.argv[1])
"""


def test_a_killed_training_goes_on_to_the_same_weights(made, tmp_path):
    out = tmp_path / "tiny"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], env=os.environ)
    assert done.returncode == -9 and (out / "_state.pt").is_file()
    lines = []
    make_base("tiny", TINY, out, say=lines.append)
    assert lines[0] == "tiny: goes on after step 33"
    assert load_base(out)["files"] == load_base(made)["files"]
    for name in ("curve.csv", "first_steps.jsonl", "model.safetensors"):
        assert (out / name).read_bytes() == (made / name).read_bytes()
    assert not (out / "_state.pt").exists()


def test_a_state_of_another_recipe_is_not_gone_on_with(made, tmp_path):
    (tmp_path / "_state.pt").write_bytes(b"torn")
    lines, short = [], TINY.in_steps(3)
    make_base("tiny", short, tmp_path, say=lines.append)
    assert not any("goes on" in line for line in lines)


@pytest.mark.parametrize("architecture, preparation", [("aragpt2", "arabert-2020"), ("jais", "")])
def test_other_layouts_and_muon(architecture, preparation, tmp_path):
    own = dict(architecture=architecture, preparation=preparation, optimiser="muon", steps=10)
    make_base("tiny", replace(TINY, **own), tmp_path, say=lambda line: None)
    assert base_faults(tmp_path) == []
    tokenizer = load_tokenizer(tmp_path)
    assert bool(tokenizer.backend_tokenizer.normalizer) == bool(preparation)
    assert tokenizer.convert_tokens_to_ids("<|user|>") == 2
    for told, today in repeat_first_steps(tmp_path):
        assert today == pytest.approx(told, rel=LOSS_TOLERANCE)


def test_every_weight_has_one_optimiser(words):
    model = new_model("aragpt2", words, 2, 32, 2, 64, seed=0)
    adamw, muon = optimisers(model, replace(TINY, optimiser="muon"))
    inside = {id(p) for g in muon.param_groups for p in g["params"]}
    others = {id(p) for g in adamw.param_groups for p in g["params"]}
    assert not inside & others
    assert inside | others == {id(p) for p in model.parameters()}
    assert id(model.get_input_embeddings().weight) in others
    assert len(inside) == 2 * 4


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_rises_and_falls_to_nothing(schedule):
    recipe = replace(TINY, schedule=schedule, steps=1000, warmup_share=0.1)
    shares = [rate_share(recipe, k) for k in range(1000)]
    assert shares[0] == pytest.approx(0.01) and max(shares) == shares[99] == 1
    assert shares[99:] == sorted(shares[99:], reverse=True) and shares[-1] < 0.002


def spoil_weights(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def spoil_count(folder: Path):
    about = load_base(folder) | {"parameters": 7}
    (folder / "base.json").write_text(json.dumps(about), encoding="utf-8")


def spoil_card(folder: Path):
    (folder / "README.md").write_text("perfect", encoding="utf-8")


@pytest.mark.parametrize(
    "spoil, says",
    [
        (spoil_weights, "model.safetensors is another file"),
        (spoil_count, "base.json says 7"),
        (spoil_card, "README.md says something else"),
    ],
)
def test_what_is_not_as_told_is_found(made, tmp_path, spoil, says):
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)
    spoil(folder)
    assert says in "; ".join(base_faults(folder))


def test_a_recipe_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserError, match="block_length is 4096, above context 128"):
        replace(TINY, block_length=4096)
    path = tmp_path / "recipe.toml"
    text = data_path("bases", "recipe.toml").read_text(encoding="utf-8")
    path.write_text(text.replace('optimiser = "adamw"', 'optimiser = "sgd"'), encoding="utf-8")
    with pytest.raises(UserError, match="optimiser is 'sgd'"):
        load_recipes(path)


def test_the_command_makes_a_base(tmp_path):
    command = [sys.executable, "-m", "arabic_dialog", "bases", "tiny", "--steps", "4"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and "name a folder for it (--out)" in refused.stderr
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert base_faults(tmp_path / "tiny") == [] and "parameters, loss" in done.stdout
