"AraGPT2 large and mega against the same maths in plain tensors, in the published layout"

import json, math
import pytest, torch
from transformers import AutoModel, AutoModelForCausalLM, StaticCache, pipeline

from arabic_dialog.models.aragpt2 import (
    AraGPT2Config,
    AraGPT2ForCausalLM,
    AraGPT2LMHeadModel,
    AraGPT2Model,
    ARAGPT2_LORA,
)
from published import ids_of, store

CONFIG = dict(
    vocab_size=61,
    n_positions=48,
    n_embd=24,
    n_layer=3,
    n_head=3,
    n_inner=40,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=0,
    eos_token_id=0,
    initializer_range=0.3,
    activation_function="gelu_new",
)
PUBLISHED = dict(
    model_type="aragpt2",
    architectures=["AraGPT2LMHeadModel"],
    transformers_version="4.24.0",
    torch_dtype="float32",
    n_ctx=48,
    gradient_checkpointing=False,
    auto_map={
        "AutoConfig": "configuration_aragpt2.AraGPT2Config",
        "AutoModelForCausalLM": "modeling_aragpt2.AraGPT2LMHeadModel",
    },
)


def weights(seed=0, prefix="transformer.", head=False):
    "Random weights under the published names, with the constants of the old attention"
    g = torch.Generator().manual_seed(seed)
    d, inner = CONFIG["n_embd"], CONFIG["n_inner"]

    def r(*shape, around=0.0):
        return torch.randn(*shape, generator=g) * 0.25 + around

    w = {"wte.weight": r(CONFIG["vocab_size"], d), "wpe.weight": r(CONFIG["n_positions"], d)}
    for i in range(CONFIG["n_layer"]):
        for name, a, b in (
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, inner),
            ("mlp.c_proj", inner, d),
        ):
            w |= {f"h.{i}.{name}.weight": r(a, b), f"h.{i}.{name}.bias": r(b)}
        for name in ("ln_1", "ln_2"):
            w |= {f"h.{i}.{name}.weight": r(d, around=1.0), f"h.{i}.{name}.bias": r(d)}
        w |= {
            f"h.{i}.attn.bias": torch.ones(1, 1, 48, 48, dtype=torch.uint8),
            f"h.{i}.attn.masked_bias": torch.tensor(-1e4),
        }
    w |= {"emb_norm.weight": r(d, around=1.0), "emb_norm.bias": r(d)}
    return {prefix + k: v for k, v in w.items()} | (
        {"lm_head.weight": w["wte.weight"].clone()} if head else {}
    )


def plain_forward(w, ids):
    "AraGPT2 in plain tensors: the reference"
    w = {k.removeprefix("transformer."): v.double() for k, v in w.items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        return (
            x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu_new(x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    n = ids.shape[1]
    x = norm(w["wte.weight"][ids] + w["wpe.weight"][:n], "emb_norm")
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    for i in range(CONFIG["n_layer"]):
        q, k, v = (
            t.reshape(*t.shape[:2], CONFIG["n_head"], -1).transpose(1, 2)
            for t in linear(x, f"h.{i}.attn.c_attn").chunk(3, -1)
        )
        a = (
            (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]))
            .masked_fill(future, -math.inf)
            .softmax(-1)
        )
        x = x + linear((a @ v).transpose(1, 2).flatten(2), f"h.{i}.attn.c_proj")
        x = norm(
            x
            + linear(
                gelu_new(linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj"
            ),
            f"h.{i}.ln_2",
        )
    return x @ w["wte.weight"].T


def save(folder, w, as_bin=False, n_shards=1):
    "A checkpoint folder as published: its config names foreign code, its weights may be in shards"
    (folder / "config.json").write_text(json.dumps(CONFIG | PUBLISHED))
    store(folder, w, "bin" if as_bin else "safetensors", n_shards)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("aragpt2"), weights())


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(folder, request):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation=request.param
    )


@torch.no_grad()
def test_logits_are_those_of_the_plain_forward(model):
    ids = ids_of(2, 37)
    assert torch.allclose(model(ids).logits, plain_forward(weights(), ids), atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("head", [True, False])
def test_every_layout_of_the_files_loads_whole(tmp_path, as_bin, n_shards, prefix, head):
    ids = ids_of(1, 7)
    model, report = AutoModelForCausalLM.from_pretrained(
        save(tmp_path, weights(prefix=prefix, head=head), as_bin, n_shards),
        output_loading_info=True,
        weights_only=True,
    )
    assert isinstance(model, AraGPT2LMHeadModel) and not any(report.values()), report
    assert model.lm_head.weight is model.transformer.wte.weight
    assert torch.allclose(model(ids).logits.double(), plain_forward(weights(), ids), atol=1e-4)


@torch.no_grad()
def test_the_body_alone_loads_too(folder):
    body, ids = AutoModel.from_pretrained(folder, dtype=torch.float64), ids_of(1, 7)
    assert type(body) is AraGPT2Model
    assert torch.allclose(
        body(ids).last_hidden_state @ body.wte.weight.T, plain_forward(weights(), ids), atol=1e-10
    )


@torch.no_grad()
def test_saved_again_nothing_foreign_is_left_and_the_logits_are_the_same(folder, tmp_path):
    model, ids = AutoModelForCausalLM.from_pretrained(folder), ids_of(2, 9)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert "auto_map" not in saved and saved["model_type"] == "aragpt2"
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (
        torch.equal(again(ids).logits, model(ids).logits)
        and again.config.to_diff_dict() == AraGPT2Config.from_dict(saved).to_diff_dict()
    )


@torch.no_grad()
def test_padding_changes_nothing(model):
    ids, wanted = ids_of(2, 9), model(ids_of(2, 9)).logits
    pad, ones = torch.zeros(2, 4, dtype=torch.long), torch.ones_like(ids)
    left = model(torch.cat([pad, ids], 1), attention_mask=torch.cat([pad, ones], 1)).logits
    right = model(torch.cat([ids, pad], 1), attention_mask=torch.cat([ones, pad], 1)).logits
    assert (
        torch.allclose(left[:, 4:], wanted, atol=1e-10)
        and torch.allclose(right[:, :9], wanted, atol=1e-10)
        and torch.isfinite(left).all()
    )


@torch.no_grad()
@pytest.mark.parametrize("static", [False, True])
def test_a_prompt_in_pieces_and_a_cache_change_nothing(model, static):
    ids, mask = ids_of(2, 15), torch.ones(2, 15, dtype=torch.long)
    mask[1, :4] = 0
    wanted, cache, got = (
        model(ids, attention_mask=mask).logits,
        StaticCache(config=model.config, max_cache_len=32) if static else None,
        [],
    )
    for start, end in ((0, 6), (6, 7), (7, 13), (13, 14), (14, 15)):
        out = model(
            ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        got.append(out.logits)
    assert torch.allclose(torch.cat(got, 1)[mask.bool()], wanted[mask.bool()], atol=1e-10)


def test_batch_generation_with_and_without_cache_is_that_of_each_alone(model):
    short, long = ids_of(1, 4), ids_of(1, 9, seed=2)
    batch = torch.cat([torch.cat([torch.zeros(1, 5, dtype=torch.long), short], 1), long])
    how = dict(
        attention_mask=torch.tensor([[0] * 5 + [1] * 4, [1] * 9]),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=60,
        pad_token_id=0,
    )
    cached = model.generate(batch, **how)
    assert torch.equal(cached, model.generate(batch, use_cache=False, **how))
    assert torch.equal(cached, model.generate(batch, prefill_chunk_size=4, **how))
    assert torch.equal(
        cached, model.generate(batch, cache_implementation="static", disable_compile=True, **how)
    )
    for row, alone in zip(cached, (short, long), strict=True):
        own = model.generate(
            alone, max_new_tokens=12, do_sample=False, eos_token_id=60, pad_token_id=0
        )[0, alone.shape[1] :]
        assert torch.equal(row[9 : 9 + len(own)], own)


@torch.no_grad()
def test_other_ways_in_and_out(model):
    ids = ids_of(2, 9)
    out = model(ids, labels=ids, output_hidden_states=True)
    assert torch.allclose(
        out.loss,
        torch.nn.functional.cross_entropy(
            out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
        ).to(out.loss),
    )
    assert len(out.hidden_states) == 4
    assert torch.allclose(model(ids, logits_to_keep=2).logits, out.logits[:, -2:], atol=1e-12)
    assert torch.allclose(
        model(inputs_embeds=model.get_input_embeddings()(ids)).logits, out.logits, atol=1e-12
    )
    assert torch.equal(model(ids, token_type_ids=torch.ones_like(ids)).logits, out.logits)
    assert torch.equal(model(ids, return_dict=False)[0], out.logits)
    with pytest.raises(ValueError, match="either"):
        model()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bfloat16_stays_near(folder, attention):
    ids = ids_of(2, 40)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    with torch.no_grad():
        exact = AutoModelForCausalLM.from_pretrained(folder)(ids, attention_mask=mask).logits
        rough = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation=attention
        )(ids, attention_mask=mask).logits
    assert rough.dtype == torch.bfloat16 and torch.isfinite(rough).all()
    assert (rough.float() - exact)[mask.bool()].abs().mean() < 0.02 * exact.abs().mean()


def test_a_step_is_finite_keeps_the_tie_and_checkpointing_gives_the_same_gradient(folder):
    ids, gradients = ids_of(2, 12), []
    for checkpointing in (False, True):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        out = model(ids, labels=ids)
        out.loss.backward()
        assert (out.past_key_values is None) == checkpointing
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert all(
        torch.allclose(gradients[0][n], g, atol=1e-12) and torch.isfinite(g).all()
        for n, g in gradients[1].items()
    )
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert model.lm_head.weight is model.transformer.wte.weight and torch.isfinite(
        model(ids, labels=ids).loss
    )


def test_compiled_without_a_break_the_logits_are_the_same():
    torch.manual_seed(0)
    model, ids = (
        AraGPT2ForCausalLM(AraGPT2Config(**CONFIG | dict(n_layer=1))).double().eval(),
        ids_of(2, 9),
    )
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    torch._dynamo.reset()
    compiled = torch.compile(
        model, fullgraph=True, backend="eager"
    )  # the whole graph is caught; no C++ compiler is needed
    with torch.no_grad():
        assert torch.allclose(
            compiled(ids, attention_mask=mask, use_cache=False).logits,
            model(ids, attention_mask=mask).logits,
            atol=1e-10,
        )
        cache = StaticCache(config=model.config, max_cache_len=16)
        model(ids[:, :8], past_key_values=cache, use_cache=True)
        assert torch.allclose(
            compiled(ids[:, 8:], past_key_values=cache, use_cache=True).logits,
            model(ids).logits[:, 8:],
            atol=1e-10,
        )


def test_lora_trains_only_its_adapters_and_merges(folder):
    from peft import LoraConfig, get_peft_model

    model, ids = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64), ids_of(2, 9)
    tuned = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=0.0, **ARAGPT2_LORA)
    )
    names = {
        n.split(".lora_")[0].split(".h.")[1].split(".", 1)[1]
        for n, p in tuned.named_parameters()
        if p.requires_grad
    }
    assert names == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    before, optimiser = (
        {n: p.detach().clone() for n, p in tuned.named_parameters()},
        torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], 1.0),
    )
    for _ in range(2):  # B starts at 0, so A moves from the second step on
        optimiser.zero_grad()
        tuned(ids, labels=ids).loss.backward()
        optimiser.step()
    assert all(
        (torch.equal(p, before[n])) == ("lora_" not in n) for n, p in tuned.named_parameters()
    )
    tuned.eval()
    with torch.no_grad():
        wanted = tuned(ids).logits
        merged = tuned.merge_and_unload()
        assert torch.allclose(merged(ids).logits, wanted, atol=1e-10) and not torch.allclose(
            wanted, plain_forward(weights(), ids), atol=1e-3
        )


def test_the_pipeline_of_transformers_is_unchanged(folder, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel(
            {"<|endoftext|>": 0} | {f"w{i}": i for i in range(1, 61)}, unk_token="<|endoftext|>"
        )
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )  # sends token_type_ids
    save(tmp_path, weights())
    tokenizer.save_pretrained(tmp_path)
    model = AraGPT2ForCausalLM.from_pretrained(folder)
    asked = pipeline("text-generation", model=str(tmp_path))(
        "w3 w14 w15", max_new_tokens=6, do_sample=False, return_full_text=False
    )[0]["generated_text"]
    own = model.generate(
        torch.tensor([[3, 14, 15]]), max_new_tokens=6, do_sample=False, pad_token_id=0
    )[0, 3:]
    assert asked == tokenizer.decode(own, skip_special_tokens=True)


def test_new_weights_are_drawn_as_gpt2_draws_them():
    block = AraGPT2ForCausalLM(
        AraGPT2Config(vocab_size=64, n_positions=16, n_embd=128, n_layer=8, n_head=4)
    ).transformer.h[3]
    assert abs(block.mlp.c_fc.weight.std() / 0.02 - 1) < 0.1
    for c in (block.mlp.c_proj, block.attn.c_proj):
        assert abs(c.weight.std() / 0.005 - 1) < 0.1  # by 1/√(2 × 8 layers)
