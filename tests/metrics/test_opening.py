"Models are opened before the first GPU hour: each family as it is, each fault named, all at once"

import re
import shutil
from pathlib import Path

import pytest
from families import FAMILIES, HYBRID, make_family
from published import edit

from arabic_dialog.commands.reproduce import open_needed
from arabic_dialog.core.records import UserError
from arabic_dialog.core.runs import RunFolder, Work
from arabic_dialog.core.settings import load_profile
from arabic_dialog.core.workers import Crew
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.metrics import opening
from arabic_dialog.metrics.opening import Trial, open_model, open_models, profile_trials
from arabic_dialog.models.loading import new_model

ALL = ("read", "rendered", "laid out", "loaded", "generated", "scored")
ROOT = Path(__file__).resolve().parents[2]


class Here(Crew):
    "This process, and how many models it opened"

    def __init__(self):
        self.n = 0

    def call(self, do, *job):
        self.n += 1
        return do(*job)

    def close(self, now=False):
        pass


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    "A small checkpoint of each family, and two students"
    folder = tmp_path_factory.mktemp("models")
    for name in FAMILIES:
        if name not in HYBRID:
            make_family(folder / name, name)
    tokenizer = train_tokenizer(["ما أشهر أنواع الخبز في مصر؟"] * 3, 400)
    tokenizer.chat_template = None
    for name, kind in (("student", "aragpt2"), ("jais", "jais")):
        model = new_model(kind, tokenizer, 2, 16, 2, 512 if name == "student" else 4096, seed=0)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture
def spoil(shelf, tmp_path):
    "A copy of a checkpoint, changed"

    def copy(name, change, called="bad"):
        shutil.copytree(shelf / name, tmp_path / called)
        change(tmp_path / called)
        return str(tmp_path / called)

    return copy


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in HYBRID])
def test_every_family_is_opened_as_it_is(name, shelf):
    opened = open_model(Trial(str(shelf / name), "baseline", n_new=64))
    assert (opened.faults, opened.steps, opened.end) == ((), ALL, FAMILIES[name].end)


def test_students_and_generators_are_opened_as_they_are(shelf):
    opened = open_model(Trial(str(shelf / "student"), "student", n_new=64, max_length=256))
    assert opened.faults == () and opened.steps == (*ALL[:2], "masked", *ALL[2:])
    opened = open_model(Trial(str(shelf / "jais"), "generator", prompt="اكتب محادثة.", n_new=64))
    assert (opened.faults, opened.steps, opened.end) == ((), ALL, "<|endoftext|>")
    base = Trial(str(shelf / "student"), "generator", prompt="اكتب محادثة.", n_new=64)
    assert open_model(base).steps == ALL[:-1]  # a base model has no frame to score in


def without(name):
    return lambda folder: [path.unlink() for path in folder.glob(name)]


def template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


@pytest.mark.parametrize(
    "kind, change, role, message",
    [
        ("student", without("model.safetensors"), "student", "has no weights.*; fetch it again"),
        ("student", without("config.json"), "student", "has no config.json"),
        ("student", without("tokenizer*"), "student", "cannot be loaded|no words"),
        (
            "student",
            lambda d: edit(d / "config.json", lambda c: c.update(vocab_size=99)),
            "student",
            "its model has only 99 tokens.*do not belong together",
        ),
        (
            "student",
            lambda d: edit(d / "config.json", lambda c: c.update(model_type="jias")),
            "student",
            "has model_type 'jias'",
        ),
        (
            "student",
            lambda d: (d / "model.safetensors").write_bytes(b"torn"),
            "student",
            "is torn or no file of weights",
        ),
        ("Gemma-3-it", template("{{ messages[0].content }}"), "baseline", "scored|does not write"),
        (
            "Gemma-3-it",
            template("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"),
            "baseline",
            "so no reply could end; let it close each assistant turn",
        ),
        ("Gemma-3-it", template("{% for %}"), "baseline", "the chat frame refuses the turns"),
        ("Qwen3", lambda d: None, "student", "no {% generation %} marks"),
    ],
)
def test_each_fault_is_named_with_its_remedy(kind, change, role, message, spoil):
    name = spoil(kind, change)
    opened = open_model(Trial(name, role, n_new=16, max_length=256))
    assert opened.faults
    pattern = re.compile(message)
    assert any(pattern.search(fault) for fault in opened.faults), opened.faults
    assert all(name in line and "\n" not in line for line in opened.lines)


def test_lengths_that_do_not_fit_are_told_with_the_number_that_does(shelf):
    student = str(shelf / "student")
    [fault] = open_model(Trial(student, "student", n_new=64, max_length=600)).faults
    assert "set max_length to 512 or less" in fault
    [fault] = open_model(Trial(student, "generator", prompt="اكتب.", n_new=510)).faults
    assert "set max_new_tokens to 50" in fault
    [fault] = open_model(Trial(student, "student", n_new=512, max_length=64)).faults
    assert "reply_max_new_tokens" in fault


@pytest.mark.parametrize("name", HYBRID)
def test_a_model_whose_rows_cannot_share_a_pool_is_known_from_its_config(name, tmp_path):
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from families import family_tokenizer

    tokenizer = family_tokenizer(FAMILIES[name])
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    own = {
        "LFM2": dict(layer_types=["conv", "full_attention"]),
        "Falcon-H1-Instruct": dict(
            mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8
        ),
    }[name]
    kind = CONFIG_MAPPING[FAMILIES[name].model_type]
    config = kind(vocab_size=len(tokenizer), num_key_value_heads=1, **sizes, **own)
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    log = opening._Steps()
    with log.step("laid out"):
        opening.kv_bytes_per_token(opening._laid_out(config))
    [fault] = log.faults
    assert "cannot share a pool" in fault and "as a baseline, take another" in fault


def test_all_faults_of_all_models_are_listed_at_once(shelf, spoil, tmp_path):
    gemma = spoil("Gemma-3-it", template("{% for m in messages %}{{ m.content }}{% endfor %}"), "g")
    torn = spoil(
        "student",
        lambda d: (
            (d / "model.safetensors").write_bytes(b"torn"),
            edit(d / "config.json", lambda c: c.update(vocab_size=99)),
        ),
        "t",
    )
    empty = spoil("jais", without("model.safetensors"), "e")
    overrides = {
        "engine": "transformers",
        "generator": empty,
        "checkpoints": f"{shelf / 'student'}, {torn}",
        "baselines": f"{gemma}, {shelf / 'Qwen3'}",
        "max_new_tokens": "128",
        "max_length": "256",
        "encoder": "no-encoder",
    }
    profile, lines = load_profile("smoke", overrides=overrides), []
    trials = profile_trials(profile, ROOT)
    assert [t.role for t in trials] == [
        "generator",
        *("student", "student"),
        *("baseline", "baseline"),
        "encoder",
    ]
    assert trials[0].prompt and trials[0].n_new == 128
    with pytest.raises(UserError, match="4 of 6 models cannot be used as they are, for 5 reasons"):
        open_models(trials, tmp_path / "notes", lines.append, Here())
    faults = [line for line in lines if line.startswith("✗")]
    for name, n in ((empty, 1), (torn, 2), (gemma, 1), ("no-encoder", 1)):
        assert sum(f"{name} (" in line for line in faults) == n
    assert sum(line.startswith("✓") for line in lines) == 2
    early = profile_trials(profile, ROOT, lambda stage: stage in ("complete", "check"))
    assert [t.role for t in early] == ["generator"]


def test_what_was_opened_is_not_opened_again_until_its_files_change(spoil, tmp_path):
    name = spoil("student", lambda d: None)
    crew, trial = Here(), Trial(name, "student", n_new=16, max_length=256)
    for n in (1, 1):
        open_models([trial], tmp_path / "notes", print, crew)
        assert crew.n == n
    (Path(name) / "README.md").write_text("بطاقة")
    open_models([trial], tmp_path / "notes", print, crew)
    assert crew.n == 1
    tokens = Path(name) / "tokenizer_config.json"
    tokens.write_text(tokens.read_text() + " ")
    open_models([trial], tmp_path / "notes", print, crew)
    assert crew.n == 2
    open_models([Trial(name, "baseline", n_new=16)], tmp_path / "notes", print, crew)
    assert crew.n == 3


def test_where_weights_do_not_fit_the_tokenizer_is_tried_and_it_says_so(
    shelf, tmp_path, monkeypatch
):
    monkeypatch.setattr(opening, "free_memory", lambda device: 10**6)
    crew, lines = Here(), []
    trial = Trial(str(shelf / "Qwen3"), "baseline", n_new=16)
    for n in (1, 2):  # it is tried again, for the memory may be free by then
        [opened] = open_models([trial], tmp_path, lines.append, crew)
        assert opened.steps == ("read", "rendered", "laid out") and crew.n == n
    assert "do not fit into the 1 MB that are free now, and were not tried" in lines[0]
    elsewhere = open_model(Trial(str(shelf / "jais"), "generator", prompt="ا", elsewhere=True))
    assert "other machines" in elsewhere.notes[0] and "loaded" not in elsewhere.steps


def test_a_run_says_all_that_is_wrong_before_anything_is_made(shelf, spoil, tmp_path):
    gemma = spoil("Gemma-3-it", template("{% for m in messages %}{{ m.content }}{% endfor %}"), "g")
    overrides = {"baselines": f"{gemma}, {shelf / 'Qwen3'}"}
    profile, lines = load_profile("smoke", overrides=overrides), []
    work = Work(profile, RunFolder(tmp_path / "run"), say=lines.append)
    open_needed(work, "train")  # up to which no baseline is needed
    assert lines == []
    with pytest.raises(UserError, match="1 of 2 models cannot be used"):
        open_needed(work, "report")
    assert len(lines) == 2 and not (tmp_path / "run" / "complete").exists()
