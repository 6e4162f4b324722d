"Every way in which a checkpoint can be wrong, and every way in which it can be right"

from dataclasses import replace

import pytest, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from arabic_dialog.core.records import UserError
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.models.loading import (
    ARCHITECTURES,
    load_checkpoints,
    load_model,
    model_facts,
    new_model,
)
from arabic_dialog.models.tokenizers import load_tokenizer
from published import edit, make, store

IDS = torch.tensor([[5, 6, 7]])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["ما أشهر أنواع الخبز في مصر؟"] * 3, 300)


@pytest.fixture
def folder(tmp_path, tokenizer):
    make(tmp_path, "aragpt2", tokenizer)
    return tmp_path


RELEASED = {"gpt2": "GPT2LMHeadModel", "aragpt2": "AraGPT2LMHeadModel", "jais": "JAISLMHeadModel"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_published_layout_gives_the_same_logits(architecture, tokenizer, tmp_path):
    with torch.no_grad():
        wanted = make(tmp_path, architecture, tokenizer)(IDS).logits
        own = load_file(tmp_path / "model.safetensors")
        edit(
            tmp_path / "config.json",
            lambda c: (
                c.pop("dtype", None),
                c.update(
                    architectures=[RELEASED[architecture]],
                    auto_map={"AutoModelForCausalLM": f"code.{RELEASED[architecture]}"},
                ),
            ),
        )
        forms = [("safetensors", 1), ("safetensors", 3), ("bin", 1), ("bin", 3), ("old bin", 1)]
        for i, (prefix, head) in enumerate(
            ((True, True), (True, False), (False, True), (False, False))
        ):
            p = "transformer." if prefix else ""
            weights = {
                p + k.removeprefix("transformer."): v.clone()
                for k, v in own.items()
                if k != "lm_head.weight"
            }
            if head:
                weights["lm_head.weight"] = own["transformer.wte.weight"].clone()
            weights |= {
                f"{p}h.{j}.attn.bias": torch.ones(1, 1, 32, 32, dtype=torch.uint8) for j in range(2)
            } | {f"{p}h.{j}.attn.masked_bias": torch.tensor(-1e4) for j in range(2)}
            if architecture == "jais":
                weights[f"{p}relative_pe.slopes"] = torch.ones(2, 1, 1)
            for form, shards in forms if i < 2 else forms[i - 1 : i]:
                store(tmp_path, weights, form, shards)
                model = load_model(tmp_path, device="cpu")
                assert torch.equal(model(IDS).logits, wanted), (prefix, head, form, shards)
                assert (
                    model.lm_head.weight is model.transformer.wte.weight
                    and model.dtype == torch.float32
                )
    model.save_pretrained(tmp_path / "again")
    saved = (tmp_path / "again" / "config.json").read_text()
    assert "auto_map" not in saved and "code." not in saved and type(model).__name__ in saved
    half = load_model(tmp_path, dtype="bfloat16", device="cpu")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16} and torch.allclose(
        half(IDS).logits.float(), wanted, atol=0.05
    )


class Evil:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.mark.parametrize("form, shards", [("bin", 1), ("bin", 3), ("old bin", 1), ("old bin", 3)])
def test_a_pickle_with_code_is_refused(folder, tmp_path, form, shards):
    weights = load_file(folder / "model.safetensors")
    ran = tmp_path / "ran"
    store(folder, weights | {"transformer.h.1.ln_2.weight": Evil(ran)}, form, shards)
    with pytest.raises(UserError, match="other than plain weights"):
        load_model(folder, device="cpu")
    assert not ran.exists()
    torch.load(
        next(f for f in folder.glob("*.bin") if b"ran" in f.read_bytes()), weights_only=False
    )
    assert ran.exists()  # it would have run


def test_other_code_that_a_config_asks_for_is_dropped(folder):
    wanted = load_model(folder, device="cpu")(IDS).logits
    edit(
        folder / "config.json",
        lambda c: c.update(
            attn_implementation="someone/kernel",
            _attn_implementation="someone/kernel",
            fusion_config={"x": True},
            transformers_weights="other.safetensors",
        ),
    )
    model = load_model(folder, device="cpu")
    assert torch.equal(model(IDS).logits, wanted) and model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda w: w.pop("transformer.h.1.ln_2.weight"),
            "lacks weights: transformer.h.1.ln_2.weight",
        ),
        (
            lambda w: w.update({"transformer.ln_9.weight": torch.ones(16)}),
            "unknown weights: transformer.ln_9.weight",
        ),
        (
            lambda w: w.update({"transformer.evil\x1b[2J": torch.ones(16)}),
            r"unknown weights: transformer.evil\?\[2J",
        ),
        (
            lambda w: w.update({"transformer.ln_f.weight": torch.zeros(7)}),
            r"another shape weights: transformer.ln_f.weight \[7\] for \[16\]",
        ),
        (
            lambda w: w.update({"transformer.wte.weight": torch.zeros(301, 16)}),
            r"another shape weights: transformer.wte.weight \[301, 16\]",
        ),
    ],
)
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_wrong_weights_are_named(tmp_path, tokenizer, change, message, form):
    make(tmp_path, "gpt2", tokenizer)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    store(tmp_path, weights, form)
    with pytest.raises(UserError, match=message):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "form, shards", [("safetensors", 1), ("safetensors", 3), ("bin", 1), ("bin", 3)]
)
def test_missing_torn_and_empty_files_are_named(folder, form, shards):
    weights = load_file(folder / "model.safetensors")
    store(folder, weights, form, shards)
    last = sorted((*folder.glob("*model*.safetensors"), *folder.glob("*.bin")))[-1]
    whole = last.read_bytes()
    for part in (whole[:-1000], whole[:5], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        last.write_bytes(part)
        with pytest.raises(UserError, match=f"{last.name}.*torn|cannot be loaded"):
            load_model(folder, device="cpu")
    last.unlink()
    with pytest.raises(
        UserError, match=f"{last.name}, which is missing" if shards > 1 else "has no weights"
    ):
        load_model(folder)
    if shards == 1:
        return
    index = next(folder.glob("*.index.json"))
    edit(index, lambda d: d["weight_map"].update({"transformer.wte.weight": "../other.bin"}))
    with pytest.raises(UserError, match="no file beside it"):
        load_model(folder)
    index.write_text("{torn")
    with pytest.raises(UserError, match="index.json is torn"):
        load_model(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(model_type="mystery"), "'mystery'"),
        (lambda c: c.pop("model_type"), "None"),
        (lambda c: c.update(model_type=["gpt2"]), "neither transformers"),
        (
            lambda c: c.update(model_type="mystery", auto_map={"AutoConfig": "x.Y"}),
            "never run here",
        ),
        (lambda c: c.update(model_type="vit"), "no causal language model"),
        (lambda c: c.update(n_embd="wide"), "n_embd"),
        (lambda c: c.update(n_embd=15), "divisible"),
    ],
)
def test_configs_that_cannot_be_used_are_refused(folder, change, message):
    edit(folder / "config.json", change)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_missing_things_are_named(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no checkpoint folder"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="config.json"):
        load_model(tmp_path / "empty")
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="merge it"):
        load_model(tmp_path / "empty")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="a model and a PEFT adapter"):
        load_model(folder)
    (folder / "adapter_config.json").unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="could be fetched"):
        load_model("nobody/no-such-model")
    for dtype in ("float33", "int7", 32):
        with pytest.raises(UserError, match="dtype"):
            load_model(folder, dtype=dtype)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(folder, device="gpu-of-mine")
    for text in ("{torn", "[1]", "{}"):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match="config.json"):
            load_model(folder)


def test_a_name_on_the_hub_is_read_from_its_cache_at_the_pinned_revision(
    tmp_path, tokenizer, monkeypatch
):
    old, new = "a" * 40, "b" * 40
    for name in ("tiny", "evil"):
        repo = tmp_path / "hub" / f"models--nobody--{name}"
        (repo / "refs").mkdir(parents=True)
        for value, (commit, ref) in enumerate(((old, "v1"), (new, "main"))):
            model = new_model("aragpt2", tokenizer, 2, 16, 2, 32, seed=0)
            model.lm_head.weight.data[0, 0] = value
            model.save_pretrained(repo / "snapshots" / commit)
            tokenizer.save_pretrained(repo / "snapshots" / commit)
            (repo / "refs" / ref).write_text(commit)
            if name == "evil":
                store(
                    repo / "snapshots" / commit,
                    load_file(repo / "snapshots" / commit / "model.safetensors")
                    | {"x": Evil(tmp_path / "ran")},
                    "bin",
                    value * 2 + 1,
                )
    for name, value in (("HF_HUB_CACHE", str(tmp_path / "hub")), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # which must change nothing
    for revision, value in ((None, 1), ("main", 1), ("v1", 0), (old, 0)):
        assert (
            load_model("nobody/tiny", device="cpu", revision=revision).lm_head.weight[0, 0] == value
        )
        assert len(load_tokenizer("nobody/tiny", revision)) == len(tokenizer)
    for load in (load_model, load_tokenizer):
        with pytest.raises(UserError, match="nobody/tiny at revision v9 .*offline"):
            load("nobody/tiny", revision="v9")
        with pytest.raises(UserError, match="nobody/other is neither .*offline"):
            load("nobody/other")
    for revision in ("main", "v1"):
        with pytest.raises(UserError, match="other than plain weights"):
            load_model("nobody/evil", revision=revision, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_new_models_are_reproducible_counted_and_survive_the_disk(
    architecture, tokenizer, tmp_path
):
    a, b = (new_model(architecture, tokenizer, 2, 16, 2, 32, seed=s) for s in (7, 7))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    slopes = 2 if architecture == "jais" else 0  # its publisher counts them
    assert (
        model_facts(a.config).parameters
        == a.num_parameters() + slopes
        == model_facts(a.config.to_dict()).parameters
    )
    a.save_pretrained(tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(load_model(tmp_path, device="cpu")(ids).logits, a.eval()(ids).logits)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, a(ids).logits)
    with pytest.raises(UserError, match="multiple"):
        new_model(architecture, tokenizer, 2, 16, 3, 32, seed=0)
    with pytest.raises(UserError, match="not one of"):
        new_model("gpt3", tokenizer, 2, 16, 2, 32, seed=0)


def test_the_facts_of_a_model_follow_its_precision():
    facts = model_facts(load_checkpoints()["inceptionai/jais-13b-chat"])
    assert (facts.parameters, facts.layers, facts.context) == (13_020_811_960, 40, 2048)
    assert facts.kv_bytes_per_token == 819_200 and facts.weight_bytes == 2 * facts.parameters
    wide = replace(facts, number_bytes=4)
    assert wide.weight_bytes == 2 * facts.weight_bytes
    assert wide.kv_bytes_per_token == 2 * facts.kv_bytes_per_token
    assert wide.training_flop_per_token == 3 * facts.forward_flop_per_token
    with pytest.raises(UserError, match="neither transformers nor this package knows"):
        model_facts({"model_type": "mystery"})


@pytest.mark.parametrize("dtype, most", [("int8", 0.65), ("nf4", 0.45)])
def test_a_generator_is_kept_in_fewer_bits_and_says_nearly_the_same(
    dtype, most, tokenizer, tmp_path
):
    whole = new_model("jais", tokenizer, 2, 256, 4, 32, seed=0).eval()
    whole.save_pretrained(tmp_path)
    plain = load_model(tmp_path, dtype="bfloat16", device="cpu")
    kept = load_model(tmp_path, dtype=dtype, device="cpu")
    assert kept.get_memory_footprint() < most * plain.get_memory_footprint()
    assert kept.transformer.wte.weight.dtype == torch.bfloat16
    with torch.no_grad():
        wanted, given = plain(IDS).logits.float(), kept(IDS).logits.float()
    assert (given - wanted).abs().mean() < 0.1 * wanted.std()


@pytest.mark.parametrize("dtype", ["int8", "nf4"])
def test_fewer_bits_without_their_library_name_what_installs_it(dtype, folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{dtype}.*arabic-dialog\\[qlora\\]"):
        load_model(folder, dtype=dtype)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "nf4"])
def test_the_facts_tell_what_a_model_takes_in_each_precision(
    architecture, dtype, tokenizer, tmp_path
):
    new_model(architecture, tokenizer, 2, 256, 4, 32, seed=0).save_pretrained(tmp_path)
    kept = load_model(tmp_path, dtype=dtype, device="cpu")
    told = model_facts(kept.config).kept_as(dtype).weight_bytes
    assert told == pytest.approx(kept.get_memory_footprint(return_buffers=False), rel=0.03)
