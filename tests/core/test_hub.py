"What is here of a model: whole or not, in a folder or in the cache, at a revision, under any name."

import json
from types import SimpleNamespace

import pytest

from arabic_dialog.core.hub import lacking, located, named_models, names_of, snapshots, weight_paths
from arabic_dialog.core.records import UserError
from arabic_dialog.core.settings import load_profile

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(name, commit=NEW, ref="main", files=("config.json", "model.safetensors")):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        folder = repository / "snapshots" / commit
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text("{}")
        if ref:
            (repository / "refs").mkdir(exist_ok=True)
            (repository / "refs" / ref).write_text(commit)
        return folder

    return SimpleNamespace(add=add, root=tmp_path)


def test_a_config_alone_is_no_model(cache):
    cache.add("a/b", files=["config.json"])
    assert "has no weights" in lacking("a/b") and located("a/b") == ("a/b", None)
    cache.add("a/c")
    assert lacking("a/c") == "" and located("a/c") == ("a/c", NEW)


def test_every_shard_that_the_index_names_counts(cache):
    folder = cache.add("a/b", files=["config.json", "model-1.safetensors"])
    shards = {"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    assert "lacks model-2.safetensors" in lacking("a/b")
    assert "lacks model-2.safetensors" in lacking(folder)
    (folder / "model-2.safetensors").write_text("")
    assert lacking("a/b") == lacking(folder) == ""


@pytest.mark.parametrize("text", ["{torn", "[]", '{"weight_map": {"x": "../../secret"}}'])
def test_an_index_that_is_torn_or_leads_elsewhere_is_named(cache, text):
    folder = cache.add("a/b", files=["config.json"])
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match="index"):
        weight_paths(folder)
    assert "index" in lacking("a/b") and located("a/b") == ("a/b", None)


def test_a_pinned_revision_is_looked_for_and_no_other(cache):
    cache.add("a/b", OLD, "v1")
    assert "not on this machine" in lacking("a/b")
    assert lacking("a/b", "v1") == lacking("a/b", OLD) == lacking("a/b", OLD[:7]) == ""
    assert located("a/b", "v1") == located("a/b", OLD[:9]) == ("a/b", OLD)
    assert "revision v2" in lacking("a/b", "v2") and "aaaaaa" in lacking("a/b", "aaaaaa")


def test_a_cache_under_any_name_of_a_moved_repository_is_found(cache):
    cache.add("core42/jais-13b-chat")
    names = names_of("inceptionai/jais-13b-chat")
    assert {n.split("/")[0] for n in names} == {
        "inception-mbzuai",
        "core42",
        "inceptionai",
        "inception42",
    }
    for name in names:
        assert lacking(name) == "" and located(name) == ("core42/jais-13b-chat", NEW)
    assert "not on this machine" in lacking("inceptionai/jais-30b-chat-v3")
    cache.add("inceptionai/jais-13b-chat", OLD)
    assert next(snapshots("inceptionai/jais-13b-chat")).commit == OLD  # its own name comes first


@pytest.mark.parametrize("name", ["/nope", "./nope", "~/nope", "gpt2", "a/b/c", "a/", "a b/c"])
def test_what_is_neither_folder_nor_name_is_said(cache, name):
    assert "there is no checkpoint folder" in lacking(name)


def test_a_folder_is_asked_for_its_weights_too(cache):
    folder = cache.root / "mine"
    folder.mkdir()
    assert "no config.json" in lacking(folder)
    (folder / "config.json").write_text("{}")
    assert "has no weights" in lacking(folder)
    (folder / "pytorch_model.bin").write_text("")
    assert lacking(folder) == ""


def test_an_encoder_may_keep_its_transformer_in_a_folder_of_its_own(cache):
    folder = cache.add("a/enc", files=[])
    (folder / "modules.json").write_text('[{"path": "0_Transformer"}, {"path": "1_Pooling"}]')
    assert lacking("a/enc")
    (folder / "0_Transformer").mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / "0_Transformer" / file).write_text("{}")
    assert lacking("a/enc") == ""


def test_the_models_of_a_profile_and_when_they_are_needed():
    change = {"encoder": "a/enc", "min_relevance": "0.1", "baselines": "x/y, x/y"}
    uses = named_models(load_profile("paper", overrides=change))
    assert [(u.role, u.stage) for u in uses] == [
        ("generator", "complete"),
        ("student", "train"),
        ("student", "train"),
        ("baseline", "replies"),
        ("encoder", "check"),
    ]
    served = {"engine": "openai", "endpoints": "http://localhost:1/v1"}
    assert "generator" not in {
        u.role for u in named_models(load_profile("paper", overrides=served))
    }
    cluster = named_models(load_profile("paper", overrides={"engine": "ray"}))
    assert cluster[0].elsewhere and not cluster[1].elsewhere
