"Jais against the same maths in plain tensors, on checkpoints in the published layout"

import json, math
import pytest, torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, StaticCache, pipeline

from arabic_dialog.models.jais import (
    JAISLMHeadModel,
    JaisConfig,
    JaisForCausalLM,
    JaisModel,
    JAIS_LORA,
    alibi_mask,
    alibi_slopes,
    interpolation,
)
from published import ids_of, store

OLD = dict(embeddings_scale=3.7, width_scale=0.31, scale_qk_dot_by_d=True)
NEW = dict(
    mup_embeddings_scale=3.7, mup_output_alpha=0.62, mup_width_scale=0.5, mup_scale_qk_dot_by_d=True
)
# As odd as the real one: five heads (no power of two), an inner width that is no multiple of the
# width, scales that are not 1
CONFIG = dict(
    vocab_size=61,
    n_positions=64,
    n_embd=40,
    n_layer=3,
    n_head=5,
    n_inner=107,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    initializer_range=0.25,
    activation_function="swiglu",
    position_embedding_type="alibi",
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
PUBLISHED = dict(
    model_type="jais",
    architectures=["JAISLMHeadModel"],
    transformers_version="4.30.0",
    torch_dtype="float32",
    scale_attn_weights=True,
    auto_map={
        "AutoConfig": "configuration_jais.JAISConfig",
        "AutoModelForCausalLM": "modeling_jais.JAISLMHeadModel",
    },
)


def weights(seed=0, prefix="transformer.", dtype=torch.float32):
    "Random weights under the published names, with the slopes and constants of a checkpoint"
    g = torch.Generator().manual_seed(seed)
    d, inner = CONFIG["n_embd"], CONFIG["n_inner"]

    def r(*shape, by=0.25, around=0.0):
        return (torch.randn(*shape, generator=g, dtype=torch.float64) * by + around).to(dtype)

    w = {"wte.weight": r(CONFIG["vocab_size"], d), "relative_pe.slopes": torch.full((5, 1), 9.0)}
    for i in range(CONFIG["n_layer"]):
        for name, a, b in (
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, inner),
            ("mlp.c_fc2", d, inner),
            ("mlp.c_proj", inner, d),
        ):
            w |= {f"h.{i}.{name}.weight": r(a, b), f"h.{i}.{name}.bias": r(b)}
        for name in ("ln_1", "ln_2"):
            w |= {f"h.{i}.{name}.weight": r(d, around=1.0), f"h.{i}.{name}.bias": r(d)}
        w |= {
            f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8),
            f"h.{i}.attn.masked_bias": torch.tensor(-1e4),
        }
    w |= {"ln_f.weight": r(d, around=1.0), "ln_f.bias": r(d)}
    return {prefix + k: v for k, v in w.items()} | {"lm_head.weight": w["wte.weight"].clone()}


def plain_slopes(n):
    "The rule as the ALiBi paper's own code has it"
    if n & (n - 1) == 0:
        return [2 ** (-8 * (i + 1) / n) for i in range(n)]
    p = 2 ** math.floor(math.log2(n))
    return plain_slopes(p) + plain_slopes(2 * p)[0::2][: n - p]


def plain_forward(w, ids, scale=(3.7, 0.31), by_d=True):
    "Jais in plain tensors: the reference"
    w = {k.removeprefix("transformer."): v.double() for k, v in w.items()}
    n_head = CONFIG["n_head"]

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        return (
            x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    n = ids.shape[1]
    i, j = torch.arange(n)[:, None], torch.arange(n)[None]
    bias = torch.tensor(plain_slopes(n_head), dtype=torch.float64)[:, None, None] * -(i - j).abs()
    x = w["wte.weight"][ids] * scale[0]
    for k in range(CONFIG["n_layer"]):
        q, key, v = (
            t.reshape(*t.shape[:2], n_head, -1).transpose(1, 2)
            for t in linear(norm(x, f"h.{k}.ln_1"), f"h.{k}.attn.c_attn").chunk(3, -1)
        )
        a = (
            (q @ key.transpose(-1, -2) / q.shape[-1] ** (1 if by_d else 0.5) + bias)
            .masked_fill(j > i, -math.inf)
            .softmax(-1)
        )
        x = x + linear((a @ v).transpose(1, 2).flatten(2), f"h.{k}.attn.c_proj")
        h = norm(x, f"h.{k}.ln_2")
        gate = linear(h, f"h.{k}.mlp.c_fc2")
        x = x + linear(
            linear(h, f"h.{k}.mlp.c_fc") * gate * torch.sigmoid(gate), f"h.{k}.mlp.c_proj"
        )
    return norm(x, "ln_f") @ w["wte.weight"].T * scale[1]


def save(folder, w, config=OLD, as_bin=False, n_shards=1):
    "A checkpoint folder as published: its config names foreign code, its weights may be in shards"
    (folder / "config.json").write_text(json.dumps(CONFIG | PUBLISHED | config))
    store(folder, w, "bin" if as_bin else "safetensors", n_shards)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("jais"), weights())


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
@pytest.mark.parametrize(
    "config, scale, by_d",
    [
        (NEW, (3.7, 0.31), True),
        (OLD | {"mup_output_alpha": 0.62, "mup_width_scale": 0.5}, (3.7, 0.31), True),
        ({}, (1, 1), False),
    ],
)
def test_old_and_new_names_mean_the_same(tmp_path, config, scale, by_d):
    model, ids = (
        JaisForCausalLM.from_pretrained(save(tmp_path, weights(), config), dtype=torch.float64),
        ids_of(1, 9),
    )
    logits = model(ids).logits
    assert torch.allclose(logits, plain_forward(weights(), ids, scale, by_d), atol=1e-10)
    model.save_pretrained(tmp_path / "again")
    again = JaisForCausalLM.from_pretrained(tmp_path / "again")
    assert (
        torch.allclose(again(ids).logits, logits, atol=1e-14)
        and again.config.logit_scale == model.config.logit_scale
    )


@torch.no_grad()
@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("head", [True, False])
def test_every_layout_of_the_files_loads_whole(tmp_path, as_bin, n_shards, prefix, head):
    w = weights(prefix=prefix)
    wanted, ids = plain_forward(weights(), ids_of(1, 7)), ids_of(1, 7)
    if not head:
        del w["lm_head.weight"]
    model, report = AutoModelForCausalLM.from_pretrained(
        save(tmp_path, w, as_bin=as_bin, n_shards=n_shards),
        output_loading_info=True,
        weights_only=True,
    )
    assert isinstance(model, JAISLMHeadModel) and not any(report.values()), report
    assert model.lm_head.weight is model.transformer.wte.weight
    assert torch.allclose(model(ids).logits.double(), wanted, atol=1e-4)


@torch.no_grad()
def test_the_body_alone_loads_too(folder):
    body, ids = AutoModel.from_pretrained(folder, dtype=torch.float64), ids_of(1, 7)
    assert type(body) is JaisModel
    assert torch.allclose(
        body(ids).last_hidden_state @ body.wte.weight.T * 0.31,
        plain_forward(weights(), ids),
        atol=1e-10,
    )


def test_saved_again_nothing_foreign_is_left_and_the_logits_are_the_same(folder, tmp_path):
    model, ids = AutoModelForCausalLM.from_pretrained(folder), ids_of(2, 9)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (
        "auto_map" not in saved
        and not {"embeddings_scale", "width_scale", "scale_qk_dot_by_d"} & saved.keys()
        and saved["model_type"] == "jais"
    )
    assert torch.equal(
        AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, model(ids).logits
    )
    assert (
        AutoConfig.from_pretrained(tmp_path).to_diff_dict()
        == JaisConfig.from_dict(saved).to_diff_dict()
        == model.config.to_diff_dict()
    )


@pytest.mark.parametrize(
    "change, key",
    [
        (dict(position_embedding_type="learned"), "position_embedding_type is 'learned'"),
        (dict(activation_function="gelu"), "activation_function is 'gelu'"),
        (dict(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
        (dict(reorder_and_upcast_attn=True), "reorder_and_upcast_attn"),
        (dict(add_cross_attention=True), "add_cross_attention"),
        (dict(alibi_scaling={"type": "ntk", "factor": 2.0}), "alibi_scaling"),
        (dict(alibi_scaling={"type": "linear"}), "alibi_scaling"),
        (dict(embeddings_scale=2.0, mup_embeddings_scale=3.0), "contradicts"),
        (dict(width_scale=0.5, mup_output_alpha=0.5), None),
        (dict(width_scale=0.5, mup_output_alpha=0.4, mup_width_scale=0.9), "contradicts"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(change, key):
    if key is None:
        assert JaisConfig(**change).logit_scale == 0.5
        return
    with pytest.raises(ValueError, match=key):
        JaisConfig(**change)


def test_attention_that_cannot_carry_alibi_is_refused(folder):
    for other in ("flex_attention", "flash_attention_2"):
        with pytest.raises((ValueError, ImportError)):
            AutoModelForCausalLM.from_pretrained(folder, attn_implementation=other)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 12, 40, 71])
def test_slopes_are_those_of_the_paper(n):
    assert torch.allclose(
        alibi_slopes(n, torch.float64),
        torch.tensor(plain_slopes(n), dtype=torch.float64),
        rtol=1e-14,
    )
    assert torch.allclose(alibi_slopes(n), torch.tensor(plain_slopes(n)), rtol=1e-6)


def test_bfloat16_tells_neighbours_apart_and_rounds_once():
    exact = alibi_mask(
        torch.ones(1, 1, 1, 2048, dtype=torch.bool),
        alibi_slopes(40, torch.float64),
        2047,
        torch.float64,
    )
    rough = alibi_mask(
        torch.ones(1, 1, 1, 2048, dtype=torch.bool), alibi_slopes(40), 2047, torch.bfloat16
    )
    assert (
        torch.equal(rough, exact.float().bfloat16())
        and ((rough - exact).abs() <= exact.abs() / 256).all()
    )
    assert (rough[0, :, 0, -100:].diff() > 0).all()


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
    assert torch.allclose(model(ids, attention_mask=ones).logits, wanted, atol=1e-10)


@torch.no_grad()
def test_packed_texts_do_not_see_each_other(model):
    a, b = ids_of(1, 6), ids_of(1, 5, seed=2)
    packed = model(
        torch.cat([a, b], 1), position_ids=torch.tensor([[*range(6), *range(5)]]), use_cache=False
    ).logits
    assert torch.allclose(packed, torch.cat([model(a).logits, model(b).logits], 1), atol=1e-10)


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
    )
    cached = model.generate(batch, **how)
    assert torch.equal(cached, model.generate(batch, use_cache=False, **how))
    assert torch.equal(cached, model.generate(batch, prefill_chunk_size=4, **how))
    assert torch.equal(
        cached, model.generate(batch, cache_implementation="static", disable_compile=True, **how)
    )
    for row, alone in zip(cached, (short, long), strict=True):
        own = model.generate(alone, max_new_tokens=12, do_sample=False, eos_token_id=60)[
            0, alone.shape[1] :
        ]
        assert torch.equal(row[9 : 9 + len(own)], own)


@torch.no_grad()
def test_other_ways_in_and_out(model):
    ids = ids_of(2, 9)
    out = model(ids, labels=ids, output_hidden_states=True, output_attentions=True)
    assert torch.allclose(
        out.loss,
        torch.nn.functional.cross_entropy(
            out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
        ).to(out.loss),
    )
    assert len(out.hidden_states) == 4 and (
        len(out.attentions) == 3
        if model.config._attn_implementation == "eager"
        else not out.attentions
    )
    assert torch.allclose(model(ids, logits_to_keep=2).logits, out.logits[:, -2:], atol=1e-12)
    assert torch.allclose(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, out.logits)
    assert torch.equal(model(ids, token_type_ids=torch.ones_like(ids)).logits, out.logits)
    assert torch.equal(model(ids, return_dict=False)[0], out.logits)
    seen = torch.ones(9, 9, dtype=torch.bool).tril()[
        None, None
    ]  # a ready 4D mask, of truth values or of numbers
    for mask in (seen, torch.zeros(1, 1, 9, 9, dtype=torch.float64).masked_fill(~seen, -math.inf)):
        assert torch.allclose(
            model(ids, attention_mask=mask.expand(2, -1, -1, -1)).logits, out.logits, atol=1e-10
        )
    with pytest.raises(ValueError, match="either"):
        model()


@torch.no_grad()
def test_interpolation_flattens_the_slopes(folder):
    ids, cut = ids_of(1, 12), dict(dtype=torch.float64)
    plain = AutoModelForCausalLM.from_pretrained(folder, **cut)(ids).logits
    by = {
        k: AutoModelForCausalLM.from_pretrained(
            folder, alibi_scaling={"type": "linear"} | v, **cut
        )(ids).logits
        for k, v in dict(
            factor=dict(factor=1.5), beyond=dict(train_seq_len=8), within=dict(train_seq_len=12)
        ).items()
    }
    assert torch.allclose(by["factor"], by["beyond"], atol=1e-12) and not torch.allclose(
        by["factor"], plain, atol=1e-3
    )
    assert (
        torch.equal(by["within"], plain)
        and interpolation({"train_seq_len": 8}, torch.tensor(4)) == 1
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bfloat16_stays_near(folder, attention):
    ids = ids_of(2, 40)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    with torch.no_grad():
        exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(
            ids, attention_mask=mask
        ).logits
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
        JaisForCausalLM(JaisConfig(**CONFIG | OLD | dict(n_layer=1))).double().eval(),
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
        model, LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=0.0, **JAIS_LORA)
    )
    names = {
        n.split(".lora_")[0].split(".h.")[1].split(".", 1)[1]
        for n, p in tuned.named_parameters()
        if p.requires_grad
    }
    assert names == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_fc2", "mlp.c_proj"}
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


def test_new_weights_follow_gpt2s_scheme():
    torch.manual_seed(0)
    model = JaisForCausalLM(
        JaisConfig(**CONFIG | dict(n_embd=80, n_layer=8, initializer_range=0.02))
    )
    block = model.transformer.h[0]
    for c in (block.mlp.c_fc, block.mlp.c_fc2, block.attn.c_attn):
        assert abs(c.weight.std() / 0.02 - 1) < 0.1 and not c.bias.any()
    for c in (block.mlp.c_proj, block.attn.c_proj):
        assert abs(c.weight.std() / 0.005 - 1) < 0.1  # by 1/√(2 × 8 layers)


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
    model = AutoModelForCausalLM.from_pretrained(folder)
    asked = pipeline("text-generation", model=str(tmp_path))(
        "w3 w14 w15", max_new_tokens=6, do_sample=False, return_full_text=False
    )[0]["generated_text"]
    own = model.generate(torch.tensor([[3, 14, 15]]), max_new_tokens=6, do_sample=False)[0, 3:]
    assert asked == tokenizer.decode(own, skip_special_tokens=True)


def test_a_trainer_that_computes_the_head_itself_computes_the_same_loss(folder):
    "TRL multiplies hidden states by the head's weights and the config's `logit_scale`"
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = ids_of(2, 12)
    labels = ids.clone()
    labels[:, :5] = -100
    own = model(ids, labels=labels).loss
    add_fused_lm_head(model)
    assert model.config.logit_scale != 1 and torch.allclose(
        model(ids, labels=labels, fused_lm_head=True).loss, own, atol=1e-5
    )
