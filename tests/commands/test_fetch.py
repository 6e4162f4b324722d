"Models from a stand-in for the Hub: fetched, broken off, gated, moved; then a run without it."

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from standin_hub import StandInHub

from arabic_dialog.commands.doctor import missing
from arabic_dialog.commands.fetch import (
    fetch_model,
    fetch_uses,
    list_model,
    needed_files,
    plan_fetch,
)
from arabic_dialog.commands.reproduce import reproduce
from arabic_dialog.core.files import find_root
from arabic_dialog.core.hub import ModelUse, lacking, located
from arabic_dialog.core.records import UserError
from arabic_dialog.core.settings import load_profile
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.models.loading import load_model, new_model
from arabic_dialog.models.tokenizers import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).with_name("arabic-dialog"))
SENTENCES = ["ما أشهر أنواع الخبز في مصر؟", "أشهرها الخبز البلدي، وهو يُخبز كل صباح."] * 40


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    "Two small models in the layouts of the students, with what a repository has beside them"
    tokenizer = train_tokenizer(SENTENCES, 400)
    folders = {}
    for kind in ("gpt2", "aragpt2"):
        folder = folders[kind] = tmp_path_factory.mktemp(kind)
        new_model(kind, tokenizer, 1, 32, 2, 512, seed=0).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text("a card")
        (folder / "modeling_evil.py").write_text("raise SystemExit('code was run')")
        (folder / "pytorch_model.bin").write_bytes(b"the same weights in another format" * 99)
    return folders


@pytest.fixture
def hub(published, tmp_path, monkeypatch):
    "The stand-in, and this process with an empty cache of its own that asks it"
    with StandInHub() as hub:
        hub.add("owner/gpt", published["gpt2"])
        hub.add("owner/ara", published["aragpt2"])
        hub.stand_in(monkeypatch, tmp_path / "hub")
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
        yield hub


def use_of(name, revision="", role="student"):
    return ModelUse(name, revision, role, "train")


def quiet(line):
    pass


def test_only_what_is_needed_comes_and_it_loads(hub, monkeypatch):
    said = []
    fetch_uses([use_of("owner/gpt")], "fetch", yes=True, say=said.append)
    asked = {path for method, path, _ in hub.asked if method == "GET"}
    assert not any(path.endswith((".py", ".md", ".bin")) for path in asked)
    assert lacking("owner/gpt") == ""
    assert any("owner/gpt" in line and "to come" not in line for line in said)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    n = len(hub.asked)
    model, tokenizer = load_model("owner/gpt", device="cpu"), load_tokenizer("owner/gpt")
    assert len(tokenizer) == model.config.vocab_size and len(hub.asked) == n
    assert [use.name for use in plan_fetch([use_of("owner/gpt")]).here] == ["owner/gpt"]


def test_a_plan_says_the_sizes_and_fetches_nothing(hub, published):
    listing = list_model(use_of("owner/gpt"))
    sizes = {f.path: f.size for f in listing.files}
    assert sizes["model.safetensors"] == (published["gpt2"] / "model.safetensors").stat().st_size
    assert listing.left == listing.size == sum(sizes.values())
    assert not any(method == "GET" and "resolve" in path for method, path, _ in hub.asked)


def test_what_broke_off_goes_on_where_it_was(hub, monkeypatch):
    size = {f.path: f.size for f in list_model(use_of("owner/gpt")).files}["model.safetensors"]
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    hub.cuts["model.safetensors"] = [0] * 99 + [1000]  # once, and then nothing comes any more
    with pytest.raises(UserError, match="owner/gpt: the Hub .*what came is kept"):
        fetch_uses([use_of("owner/gpt")], "fetch", yes=True, say=quiet)
    assert hub.sent("model.safetensors") == 1000
    listing = list_model(use_of("owner/gpt"))
    large = next(f for f in listing.files if f.path == "model.safetensors")
    assert listing.held(large) == 1000
    assert "not on this machine" in lacking("owner/gpt")  # a part is no model
    hub.mend()
    fetch_uses([use_of("owner/gpt")], "fetch", yes=True, say=quiet)
    assert lacking("owner/gpt") == "" and hub.sent("model.safetensors") == size
    assert load_model("owner/gpt", device="cpu") is not None


def test_a_connection_that_breaks_once_is_not_noticed(hub):
    hub.cut("model.safetensors", after=700, times=2)
    fetch_uses([use_of("owner/gpt")], "fetch", yes=True, say=quiet)
    assert lacking("owner/gpt") == ""


def test_a_file_that_came_damaged_is_thrown_away(hub):
    listing = list_model(use_of("owner/gpt"))
    large = next(f for f in listing.files if f.path == "model.safetensors")
    listing.part(large).parent.mkdir(parents=True)
    listing.part(large).write_bytes(b"x" * large.size)
    with pytest.raises(UserError, match="came damaged"):
        fetch_model(listing, quiet)
    fetch_model(listing, quiet)
    assert lacking("owner/gpt") == ""


def test_shards_come_as_the_index_names_them(hub, tmp_path, published):
    folder = tmp_path / "sharded"
    load_model(published["gpt2"], device="cpu").save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    for file in published["gpt2"].glob("*tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    hub.add("owner/shards", folder)
    fetch_uses([use_of("owner/shards")], "fetch", yes=True, say=quiet)
    assert load_model("owner/shards", device="cpu") is not None


def test_a_gated_model_says_what_to_do_before_anything_comes(hub, published, monkeypatch):
    hub.add("owner/gated", published["gpt2"], gated=True)
    uses = [use_of("owner/gpt"), use_of("owner/gated")]
    said = []
    with pytest.raises(UserError, match="owner/gated is gated: accept its terms at .*HF_TOKEN"):
        fetch_uses(uses, "fetch", yes=True, say=said.append)
    assert lacking("owner/gpt") and any("refused" in line for line in said)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    fetch_uses(uses, "fetch", yes=True, say=said.append)
    assert lacking("owner/gated") == "" and hub.token not in "".join(said)


def test_an_old_name_leads_to_the_new_one_and_is_found_under_both(hub, published):
    hub.add("inception42/jais-tiny", published["gpt2"])
    hub.move("core42/jais-tiny", "inception42/jais-tiny")
    fetch_uses([use_of("core42/jais-tiny")], "fetch", yes=True, say=quiet)
    assert lacking("inceptionai/jais-tiny") == ""
    assert load_model("inception-mbzuai/jais-tiny", device="cpu") is not None


def test_a_pinned_commit_is_fetched_and_found(hub, published):
    commit = hub.repositories["owner/gpt"].commit
    fetch_uses([use_of("owner/gpt", commit)], "fetch", yes=True, say=quiet)
    assert lacking("owner/gpt", commit) == "" and "not on this machine" in lacking("owner/gpt")
    fetch_uses([use_of("owner/gpt")], "fetch", yes=True, say=quiet)
    assert located("owner/gpt") == ("owner/gpt", commit)


@pytest.mark.parametrize(
    "name, revision, message",
    [
        ("owner/gtp", "", "there is no folder owner/gtp, and the Hub has no model of that name"),
        ("aubmindlab/aragpt2-mgea", "", "did you mean aubmindlab/aragpt2-mega"),
        ("owner/gpt", "v9", "owner/gpt has no revision v9"),
        ("/nope", "", "there is no checkpoint folder /nope"),
        ("owner/gpt/", "", "there is no checkpoint folder owner/gpt/"),
        ("owner/card", "", "has no weights that can be loaded here"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(hub, tmp_path, name, revision, message):
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("only words")
    hub.add("owner/card", tmp_path / "card")
    with pytest.raises(UserError, match=message) as error:
        fetch_uses([use_of(name, revision)], "fetch", yes=True, say=quiet)
    assert "\n" not in str(error.value)


def test_without_a_network_the_address_is_named(hub, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9"
    )  # no one is there
    with pytest.raises(
        UserError, match="owner/gpt: the Hub .http://127.0.0.1:9. cannot be reached"
    ):
        list_model(use_of("owner/gpt"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="work offline: unset HF_HUB_OFFLINE"):
        list_model(use_of("owner/gpt"))


def test_a_disk_that_is_too_small_is_said_before_the_question(hub, monkeypatch):
    room = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda path: room)
    with pytest.raises(UserError, match="are to come, and 0 MB are free in"):
        fetch_uses([use_of("owner/gpt")], "fetch", yes=True, say=quiet)
    assert not any("resolve" in path for _, path, _ in hub.asked)


def test_nobody_to_ask_is_told_the_command(hub):
    with pytest.raises(UserError, match="run arabic-dialog fetch --profile p, or add --yes"):
        fetch_uses([use_of("owner/gpt")], "arabic-dialog fetch --profile p", say=quiet)
    assert lacking("owner/gpt")


def test_an_encoder_brings_its_parts_and_one_format():
    paths = [
        *("modules.json", "config.json", "1_Pooling/config.json", "sentencepiece.bpe.model"),
        *("model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json"),
        *("tokenizer.json", "README.md", "train.py"),
    ]
    chosen = needed_files(paths, "encoder")
    assert "model.safetensors" in chosen and "1_Pooling/config.json" in chosen
    assert not {"pytorch_model.bin", "onnx/config.json", "train.py", "README.md"} & set(chosen)


SMALL = {
    "checkpoints": "owner/gpt, owner/ara",
    "pretrain_steps": "0",
    "n_scenarios": "120",
    "seeds": "0",
    "control_student": "",
    "finetune_steps": "2",
    "finetune_batch_size": "2",
    "max_length": "200",
    "workers": "1",
}


def test_a_run_refuses_what_is_not_here_or_fetches_it(hub, tmp_path):
    profile = load_profile("smoke", overrides=SMALL)
    with pytest.raises(UserError, match="owner/gpt, owner/ara: not on .*fetch --profile smoke"):
        reproduce(profile, tmp_path / "run", "train", quiet)
    assert not (tmp_path / "run").exists()
    asked = []
    with pytest.raises(UserError, match="enough"):
        reproduce(profile, tmp_path / "run", "train", quiet, fetch=lambda u: stop(asked, u))
    assert [use.name for use in asked] == ["owner/gpt", "owner/ara"]
    assert missing(profile, find_root(), "split") == []  # the dataset needs neither


def stop(asked, uses):
    asked += uses
    raise UserError("enough")


def test_memory_and_disk_are_estimates_that_force_overrules(hub, tmp_path, monkeypatch):
    fetch_uses([use_of("owner/gpt"), use_of("owner/ara")], "fetch", yes=True, say=quiet)
    profile = load_profile("smoke", overrides=SMALL)
    assert missing(profile, find_root(), "train") == []  # a machine without a GPU will do
    monkeypatch.setattr("arabic_dialog.commands.doctor.gpu_memory", lambda: 10)
    with pytest.raises(UserError, match="lacks a GPU with .*--force runs it all the same"):
        reproduce(profile, tmp_path / "run", "train", quiet)
    monkeypatch.setattr("arabic_dialog.commands.reproduce.make_stages", lambda *args: ["was begun"])
    # which opens the models in a process that does not know the stand-in
    monkeypatch.setattr("arabic_dialog.commands.reproduce.open_needed", lambda *args: None)
    assert reproduce(profile, tmp_path / "run", "train", quiet, force=True) == ["was begun"]


def test_a_folder_without_weights_is_refused_as_a_name_is(hub, tmp_path, published):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_bytes((published["gpt2"] / "config.json").read_bytes())
    change = SMALL | {"checkpoints": f"{folder}, owner/ara"}
    with pytest.raises(UserError, match="the student: .*bare has no weights"):
        reproduce(load_profile("smoke", overrides=change), tmp_path / "run", "train", quiet)


def command(*args, environment):
    return subprocess.run(
        [COMMAND, *map(str, args)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_an_empty_cache_an_interrupted_fetch_and_then_the_run_offline(published, tmp_path):
    "As a person does it, with the commands"
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    profile, run = ["--profile", "smoke", *settings], tmp_path / "run"
    with StandInHub() as hub:
        hub.add("owner/gpt", published["gpt2"])
        hub.add("owner/ara", published["aragpt2"])
        environment = hub.environment(tmp_path / "cache")
        refused = command("finetune", *profile, "--run", run, environment=environment)
        assert refused.returncode == 2 and "nobody is here to ask" in refused.stderr
        assert "arabic-dialog fetch --profile smoke --set" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1 and not run.exists()
        hub.cut("model.safetensors", after=900, times=99)
        broken = command("fetch", *profile, "--yes", environment=environment)
        assert broken.returncode == 2 and "what came is kept" in broken.stderr
        assert len([n for n in broken.stderr.splitlines() if n.startswith("error")]) == 1
        hub.mend()
        planned = command("fetch", *profile, "--plan", environment=environment)
        assert planned.returncode == 0 and "are here" in planned.stdout
        whole = command("fetch", *profile, "--yes", environment=environment)
        assert whole.returncode == 0, whole.stderr
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    done = command("finetune", *profile, "--run", run, environment=offline)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (run / "train" / "aragpt2-finetuned-s0" / "model.safetensors").is_file()
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert about["commits"].keys() == {"owner/gpt", "owner/ara"}
    assert all(len(commit) == 40 for commit in about["commits"].values())
