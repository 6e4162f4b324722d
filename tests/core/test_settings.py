"What a person is told of a setting, and what names of models become."

import pytest

from arabic_dialog.core.files import digest_file, find_root
from arabic_dialog.core.hub import baseline_names
from arabic_dialog.core.records import Checkpoint, UserError
from arabic_dialog.core.runs import RunFolder, Work
from arabic_dialog.core.settings import load_profile


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"seed": "x"}, "^--set, key seed = 'x'"),
        ({"promt": "x"}, "^--set, key promt is not a known key; did you mean prompt"),
        ({"prompt": "/nope.txt"}, "^--set, key prompt: there is no file /nope.txt"),
        ({"students": "a"}, "^settings.ini, section .paper., with --set students: *students names"),
        ({"baseline_revisions": "a, b"}, "baseline_revisions must be empty, or one for each"),
    ],
)
def test_a_fault_of_set_is_said_of_set(overrides, message):
    with pytest.raises(UserError, match=message):
        load_profile("paper", overrides=overrides)


def test_a_fault_of_the_file_is_said_of_the_file(tmp_path):
    text = (find_root() / "settings.ini").read_text(encoding="utf-8")
    (tmp_path / "settings.ini").write_text(text.replace("seed = 0", "seed = x", 1), "utf-8")
    with pytest.raises(UserError, match="^settings.ini, section .offline., key seed = 'x'"):
        load_profile("offline", tmp_path / "settings.ini", {"variants": "2"})


def test_a_slash_at_the_end_of_a_model_is_dropped():
    changes = {"generator": "models/jais//", "checkpoints": "a/b/, /x/y/", "baselines": "c/d/"}
    profile = load_profile("paper", overrides=changes)
    assert profile.generator == "models/jais" and profile.baselines == ("c/d",)
    assert profile.checkpoints == ("a/b", "/x/y")


def test_no_baseline_is_taken_for_something_else(tmp_path):
    models = ["aubmindlab/aragpt2-base", "x/y-finetuned", "a/control-control-s0", "me/one"]
    models += ["you/one", "z/retrieval", "Qwen/Qwen3-1.7B", str(tmp_path)]
    names = baseline_names(models)
    assert list(names.values()) == models and len(names) == len(models)
    assert not any(Checkpoint.parse(n) or Checkpoint.parse(f"{n}-s0") for n in names)
    assert names["qwen3-1.7b"] == "Qwen/Qwen3-1.7B" and names["you.one"] == "you/one"
    assert tmp_path.name in names and not any("/" in n for n in names)


def test_files_outside_the_project_are_inputs_without_their_path(tmp_path):
    prompt = tmp_path / "mine.txt"
    prompt.write_text("حوار عن {topic}", encoding="utf-8")
    work = Work(load_profile("smoke", overrides={"prompt": str(prompt)}), RunFolder(tmp_path / "r"))
    found = work.files("data/topics.csv", str(prompt))
    assert found["outside 1: mine.txt"] == digest_file(prompt) and "data/topics.csv" in found
    assert str(tmp_path) not in str(found)
