"The classes against the same maths in plain tensors, and every way in which a checkpoint can be wrong"
import json, math
import pytest, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from arabic_dialog.architectures import ARCHITECTURES, load_model, load_tokenizer, model_facts, new_model
from arabic_dialog.aragpt2 import AraGPT2Config, AraGPT2ForCausalLM
from arabic_dialog.core import UserError
from arabic_dialog.finetuning import train_tokenizer


def tiny(seed=0, dtype=torch.float64, attention="sdpa", **changes):
    torch.manual_seed(seed)
    config = AraGPT2Config(**dict(vocab_size=61, n_positions=32, n_embd=24, n_layer=3, n_head=3, n_inner=40, resid_pdrop=0., embd_pdrop=0., attn_pdrop=0.,
                                  bos_token_id=0, eos_token_id=0, initializer_range=.3) | changes)
    model = AraGPT2ForCausalLM._from_config(config, attn_implementation=attention).to(dtype).eval()
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.ndim == 1: p.add_(torch.randn_like(p) * .2)   # norms and biases that do something
    return model


def plain_forward(w, ids, n_layer, n_head):
    "AraGPT2 in plain tensors: the reference"
    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]
    def linear(x, name): return x @ w[f"{name}.weight"] + w[f"{name}.bias"]
    def gelu_new(x): return .5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + .044715 * x ** 3)))
    n = ids.shape[1]
    x = norm(w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:n], "transformer.emb_norm")
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    for i in range(n_layer):
        p = f"transformer.h.{i}"
        q, k, v = (t.reshape(*t.shape[:2], n_head, -1).transpose(1, 2) for t in linear(x, f"{p}.attn.c_attn").chunk(3, -1))
        a = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(future, -math.inf).softmax(-1)
        x = x + linear((a @ v).transpose(1, 2).flatten(2), f"{p}.attn.c_proj")
        x = norm(x + linear(gelu_new(linear(norm(x, f"{p}.ln_1"), f"{p}.mlp.c_fc")), f"{p}.mlp.c_proj"), f"{p}.ln_2")
    return x @ w["transformer.wte.weight"].T


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_are_those_of_the_plain_forward(attention):
    model, ids = tiny(attention=attention), torch.randint(0, 61, (2, 17))
    with torch.no_grad(): assert torch.allclose(model(ids).logits, plain_forward(model.state_dict(), ids, 3, 3), atol=1e-9)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_left_padding_and_cache_change_nothing(attention):
    model, ids = tiny(attention=attention), torch.randint(1, 61, (1, 9))
    padded, mask = torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], 1), torch.tensor([[0] * 4 + [1] * 9])
    with torch.no_grad():
        assert torch.allclose(model(padded, attention_mask=mask).logits[:, 4:], model(ids).logits, atol=1e-9)
        first = model(padded[:, :8], attention_mask=mask[:, :8], use_cache=True)
        rest = model(padded[:, 8:], attention_mask=mask, past_key_values=first.past_key_values, use_cache=True)
        assert torch.allclose(rest.logits, model(ids).logits[:, 4:], atol=1e-9)
    greedy = [model.generate(padded, attention_mask=mask, max_new_tokens=12, do_sample=False, use_cache=c, eos_token_id=60, pad_token_id=0) for c in (True, False)]
    assert torch.equal(*greedy)


def test_a_step_is_finite_keeps_the_tie_and_checkpointing_gives_the_same_gradient():
    ids, gradients = torch.randint(0, 61, (2, 12)), []
    for checkpointing in (False, True):
        model = tiny().train()
        if checkpointing: model.gradient_checkpointing_enable()
        model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append(model.transformer.h[0].attn.c_attn.weight.grad.clone())
    assert torch.allclose(*gradients, atol=1e-10) and torch.isfinite(gradients[0]).all()
    torch.optim.SGD(model.parameters(), .1).step()
    assert model.lm_head.weight is model.transformer.wte.weight


@pytest.fixture(scope="module")
def tokenizer(): return train_tokenizer(["ما أشهر أنواع الخبز في مصر؟"] * 3, 300)


@pytest.fixture
def folder(tmp_path, tokenizer):
    new_model("aragpt2", tokenizer, 2, 16, 2, 32, seed=0).save_pretrained(tmp_path); tokenizer.save_pretrained(tmp_path)
    return tmp_path


def edit(path, change):
    data = json.loads(path.read_text(encoding="utf-8")); change(data); path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize("as_bin", [False, True])
def test_published_extras_are_ignored_and_auto_map_is_dropped(folder, as_bin):
    weights = load_file(folder/"model.safetensors"); ids = torch.tensor([[5, 6, 7]])
    wanted = load_model(folder, device="cpu")(ids).logits
    extra = weights | {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 32, 32, dtype=torch.uint8) for i in range(2)} \
                    | {f"transformer.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    (folder/"model.safetensors").unlink()
    if as_bin: torch.save(extra, folder/"pytorch_model.bin")
    else: save_file(extra, folder/"model.safetensors", metadata={"format": "pt"})
    edit(folder/"config.json", lambda c: c.update(auto_map={"AutoModelForCausalLM": "modeling_aragpt2.AraGPT2LMHeadModel"}, architectures=["AraGPT2LMHeadModel"]))
    model = load_model(folder, device="cpu")
    assert torch.equal(model(ids).logits, wanted)
    model.save_pretrained(folder/"again")
    assert "auto_map" not in json.loads((folder/"again"/"config.json").read_text())


def test_a_pickle_with_code_is_refused(folder, tmp_path):
    (folder/"model.safetensors").unlink(); ran = tmp_path/"ran"
    class Evil:
        def __reduce__(self): return (open, (str(ran), "w"))
    torch.save({"transformer.wte.weight": Evil()}, folder/"pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"): load_model(folder)
    assert not ran.exists()


@pytest.mark.parametrize("change, message", [
    (lambda w: w.pop("transformer.h.1.ln_2.weight"), "lacks weights: transformer.h.1.ln_2.weight"),
    (lambda w: w.update({"transformer.ln_f.weight": torch.ones(16)}), "unknown weights: transformer.ln_f.weight"),
    (lambda w: w.update({"transformer.emb_norm.bias": torch.zeros(7)}), "another shape weights: transformer.emb_norm.bias")])
def test_wrong_weights_are_named(folder, change, message):
    weights = load_file(folder/"model.safetensors"); change(weights); save_file(weights, folder/"model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=message): load_model(folder)


@pytest.mark.parametrize("change, message", [
    (lambda c: c.update(model_type="jais"), "no classes for Jais yet"), (lambda c: c.update(model_type="mystery"), "'mystery'"),
    (lambda c: c.update(model_type="mystery", auto_map={"AutoConfig": "x.Y"}), "never run here")])
def test_unknown_models_are_refused(folder, change, message):
    edit(folder/"config.json", change)
    with pytest.raises(UserError, match=message): load_model(folder)


def test_missing_things_are_named(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no checkpoint folder"): load_model(tmp_path/"nowhere")
    (tmp_path/"empty").mkdir()
    with pytest.raises(UserError, match="config.json"): load_model(tmp_path/"empty")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="could be fetched"): load_model("nobody/no-such-model")
    (folder/"config.json").write_text("{torn")
    with pytest.raises(UserError, match="config.json"): load_model(folder)
    with pytest.raises(UserError, match="dtype"): load_model(folder, dtype="float33")


def test_a_tokenizer_that_does_not_fit_is_refused(folder):
    edit(folder/"config.json", lambda c: c.update(vocab_size=100))
    with pytest.raises(UserError, match="do not belong together"): load_tokenizer(folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_new_models_are_reproducible_counted_and_survive_the_disk(architecture, tokenizer, tmp_path):
    a, b = (new_model(architecture, tokenizer, 2, 16, 2, 32, seed=s) for s in (7, 7))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert model_facts(a.config)["parameters"] == a.num_parameters()
    a.save_pretrained(tmp_path); ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(load_model(tmp_path, device="cpu")(ids).logits, a.eval()(ids).logits)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, a(ids).logits)
    with pytest.raises(UserError, match="multiple"): new_model(architecture, tokenizer, 2, 16, 3, 32, seed=0)
    with pytest.raises(UserError, match="not one of"): new_model("gpt3", tokenizer, 2, 16, 2, 32, seed=0)
