"Weights that are changed in place: what depends on them is made again, and nothing else"

import os

import pytest
from families import make_family

from arabic_dialog.commands.reproduce import make_models
from arabic_dialog.core.runs import Rehearsal, RunFolder, Work
from arabic_dialog.core.settings import load_profile
from arabic_dialog.core.workers import Workers
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.generation import dataset
from arabic_dialog.models.loading import new_model

TEXTS = ["ما أشهر أنواع الخبز في مصر؟", "أهلا بك، أشهرها العيش البلدي."] * 4


def change(folder):
    "Other numbers in the same file, with the dates of the old one"
    path = folder / "model.safetensors"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS, 400)
    tokenizer.chat_template = None
    for name in ("arabiangpt", "aragpt2"):
        model = new_model("gpt2", tokenizer, 1, 16, 2, 256, seed=len(name))
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    make_family(folder / "qwen", "Qwen2.5-Instruct")
    return folder


@pytest.fixture(scope="module")
def profile(models):
    overrides = {
        "n_scenarios": "80",
        "validation_share": "0.1",
        "test_share": "0.1",
        "checkpoints": f"{models / 'arabiangpt'}, {models / 'aragpt2'}",
        "baselines": str(models / "qwen"),
        "seeds": "0",
        "finetune_steps": "1",
        "finetune_n_evaluations": "1",
        "n_test_conversations": "1",
        "reply_max_new_tokens": "2",
        "encoder": "ngrams",
        "workers": "1",
    }
    return load_profile("smoke", overrides=overrides)


def made_again(profile, folder):
    "The stages that were made a second time"
    lines = []
    with Workers(1) as crew:
        work = Work(profile, RunFolder(folder), say=lines.append)
        make_models(work, crew, dataset.make_dataset(work)[1])
    return {line.split()[1]: line for line in lines if "made again" in line}


def rehearsed(profile, folder):
    "The stages that would be"
    rehearsal = Rehearsal(profile, RunFolder(folder), say=lambda line: None)
    with Workers(1) as crew:
        make_models(rehearsal, crew, dataset.make_dataset(rehearsal)[1])
    return set(rehearsal.again)


TRAINED = {
    "arabiangpt": {
        "train/arabiangpt-finetuned-s0",
        "train/arabiangpt-control-s0",
        "replies/arabiangpt-base",
    },
    "aragpt2": {"train/aragpt2-finetuned-s0", "replies/aragpt2-base"},
    "qwen": {"replies/qwen"},
}


def test_the_stages_that_depend_on_changed_weights_are_made_again(profile, models, tmp_path):
    assert made_again(profile, tmp_path) == {}
    assert made_again(profile, tmp_path) == {}
    for name, stages in TRAINED.items():
        change(models / name)
        assert rehearsed(profile, tmp_path) == stages
        again = made_again(profile, tmp_path)
        # what a student says is made again where the student has become another
        assert (
            stages
            <= set(again)
            <= stages
            | {f"replies/{stage.removeprefix('train/')}" for stage in stages if "train" in stage}
        )
        assert all("other settings" in again[stage] for stage in stages)
        assert made_again(profile, tmp_path) == {}
    change(models / "qwen")  # back to what it was: found again, in what was set aside
    assert made_again(profile, tmp_path) == {}


def test_the_completions_of_changed_weights_are_a_log_of_their_own(models, tmp_path):
    overrides = {"engine": "transformers", "generator": str(models / "qwen")}
    work = Work(load_profile("smoke", overrides=overrides), RunFolder(tmp_path))

    def place():
        with dataset.open_log(work) as log:
            return log.path.parent

    first = place()
    about = (first / "about.json").read_text(encoding="utf-8")
    change(models / "qwen")
    second = place()
    assert second != first and (first / "about.json").read_text(encoding="utf-8") == about
    change(models / "qwen")
    assert place() == first
    # a log of before identities were written down is kept, and named after the model of today
    keys = dataset.json.dumps(dataset.generator_keys(work), default=vars)
    (first / "about.json").write_text(keys, encoding="utf-8")
    assert place() == first and (first / "about.json").read_text(encoding="utf-8") == about


def test_a_commit_of_the_hub_is_part_of_the_key_where_it_is_known(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    work = Work(load_profile("paper"), RunFolder(tmp_path / "run"))
    assert dataset.generator_identity(work) == {}
    first = dataset.open_log(work).path
    repository = tmp_path / "hub" / "models--inceptionai--jais-13b-chat"
    for commit in ("1" * 40, "2" * 40):
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        assert dataset.generator_identity(work) == {"generator_files": commit}
        assert (dataset.open_log(work).path == first) == (commit[0] == "1")
