"The pool against transformers' own `generate`, and its columns and rows as texts come and go"

from collections import deque
from dataclasses import replace

import pytest, torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from arabic_dialog.models.aragpt2 import AraGPT2Config, AraGPT2ForCausalLM
from arabic_dialog.core.files import stream
from arabic_dialog.core.records import Sampling
from arabic_dialog.models.beams import BeamPool, repeats_itself
from arabic_dialog.models.decoding import (
    Pool,
    Row,
    find_batch_size,
    kv_bytes_per_token,
    nucleus_draw,
    pick_tokens,
)

V, ROOM = 301, 96
GPT2 = dict(
    vocab_size=V,
    n_positions=ROOM,
    n_embd=24,
    n_layer=2,
    n_head=3,
    bos_token_id=0,
    eos_token_id=0,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)


def make(kind):
    torch.manual_seed(1)
    model = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
        "aragpt2": lambda: AraGPT2ForCausalLM(AraGPT2Config(**GPT2)),
        "bloom": lambda: BloomForCausalLM(
            BloomConfig(
                vocab_size=V, hidden_size=24, n_layer=2, n_head=3, bos_token_id=0, eos_token_id=0
            )
        ),  # ALiBi
        "llama": lambda: LlamaForCausalLM(
            LlamaConfig(
                vocab_size=V,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=ROOM,
                bos_token_id=0,
                eos_token_id=0,
            )
        ),
    }[kind]().eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(5)  # sharper, so that texts differ and end
    return model


@pytest.fixture(scope="module", params=["gpt2", "aragpt2", "llama", "bloom"])
def model(request):
    return make(request.param)


def write(model, prompts, n_rows, sampling, stops=(0, 1, 2, 3, 4, 5, 6, 7), kind=Pool, **how):
    pool = kind(model, n_rows, sampling, max(map(len, prompts.values())), stops, **how)
    waiting, out = deque(Row(i, p, (sampling.seed, i)) for i, p in prompts.items()), {}
    while waiting or pool.live:
        for r in pool.advance(waiting):
            assert r.key not in out
            out[r.key] = (r.new, r.reason)
    assert not pool.failed and pool.n_tokens >= sum(len(new) for new, _ in out.values())
    return out


def some_prompts(n, seed=0):
    draw = stream(seed, "prompts")
    return {
        i: [draw.randrange(8, V) for _ in range(draw.choice([1, 2, 5, 11, 30]))] for i in range(n)
    }


def test_greedy_is_what_generate_gives(model):
    prompts, sampling, stops = (
        some_prompts(7),
        Sampling(0, repetition_penalty=1.2, max_new_tokens=32),
        list(range(8)),
    )
    ours = write(model, prompts, 4, sampling)
    for i, p in prompts.items():
        theirs = model.generate(
            torch.tensor([p]),
            do_sample=False,
            repetition_penalty=1.2,
            max_new_tokens=32,
            eos_token_id=stops,
            pad_token_id=0,
        )[0, len(p) :].tolist()
        stopped = theirs[-1] in stops
        assert ours[i] == (theirs[:-1] if stopped else theirs, "stop" if stopped else "length")
    assert len({tuple(new) for new, _ in ours.values()}) > 4


def test_a_text_does_not_depend_on_its_company(model):
    prompts, sampling = some_prompts(8), Sampling(0.8, 0.9, 1.2, 32, seed=3)
    alone = {i: write(model, {i: p}, 1, sampling)[i] for i, p in prompts.items()}
    assert {why for _, why in alone.values()} == {"stop", "length"}
    for n_rows in (3, 8):
        assert write(model, prompts, n_rows, sampling) == alone
    assert write(model, dict(reversed(prompts.items())), 5, sampling) == alone
    assert write(model, prompts, 5, Sampling(0.8, 0.9, 1.2, 32, seed=4)) != alone


def test_columns_move_to_the_left_when_they_reach_the_end(monkeypatch):
    model, moves, rights = make("llama"), [], []
    move, step = Pool._move_left, Pool._step
    monkeypatch.setattr(
        Pool, "_move_left", lambda self: moves.append(self.view.right) or move(self)
    )
    monkeypatch.setattr(
        Pool,
        "_step",
        lambda self: step(self) or rights.append((self.view.right, self.view.n_columns)),
    )
    prompts, sampling = some_prompts(14, 1), Sampling(1.0, 0.95, 1.1, 30)
    together = write(model, prompts, 3, sampling)
    assert len(moves) > 1 and all(r <= n for r, n in rights)
    assert together == {i: write(model, {i: p}, 1, sampling)[i] for i, p in prompts.items()}


def test_long_groups_of_prompts_are_read_in_parts(monkeypatch):
    model, prompts, sampling = make("gpt2"), some_prompts(8), Sampling(0.8, max_new_tokens=8)
    whole = write(model, prompts, 8, sampling)
    monkeypatch.setattr("arabic_dialog.models.decoding.PREFILL_TOKENS", 12)
    assert write(model, prompts, 8, sampling) == whole


def test_nothing_that_padding_holds_reaches_a_text():
    "The next text in a row's place must not read its keys, nor the penalty count its tokens"
    model = make("gpt2")
    prompts = {0: list(range(8, 38)), 1: [50], 2: [60, 61]}
    sampling = Sampling(0.8, 0.9, 2.0, 20)
    assert write(model, prompts, 1, sampling) == {
        i: write(model, {i: p}, 1, sampling)[i] for i, p in prompts.items()
    }


def test_half_precision_runs_and_keeps_to_the_length():
    made = write(make("gpt2").bfloat16(), some_prompts(5), 2, Sampling(0.8, max_new_tokens=9))
    assert len(made) == 5 and all(
        len(new) <= 9 and (why == "stop" or len(new) == 9) for new, why in made.values()
    )


def test_the_penalty_is_that_of_transformers():
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits, context = (
            torch.randn(3, 40, generator=draw) * 3,
            torch.randint(0, 40, (3, 9), generator=draw),
        )
        expected = RepetitionPenaltyLogitsProcessor(1.7)(context, logits.clone()).argmax(-1)
        assert torch.equal(
            pick_tokens(logits, context, Sampling(0, repetition_penalty=1.7), None), expected
        )


@pytest.mark.parametrize("half", [False, True])
def test_looking_at_few_tokens_first_changes_nothing(half):
    "equal probabilities, nuclei of all sizes, shares at both ends"
    draw = torch.Generator().manual_seed(2)
    logits = torch.randn(200, 3000, generator=draw) * torch.linspace(0.01, 9, 200)[:, None]
    if half:
        logits = (logits.bfloat16() * 2).round().float() / 2  # many equals
    u = torch.rand(200, dtype=torch.float64, generator=draw)
    u[:20], u[20:40] = 0, 1 - 1e-12
    for top_p in (0.3, 0.9, 0.999, 1.0):
        sampling = Sampling(1.0, top_p, 1.0)
        assert torch.equal(
            pick_tokens(logits, torch.zeros(200, 1, dtype=torch.long), sampling, u),
            nucleus_draw(logits.softmax(-1), top_p, u, 3000)[0],
        )


def test_rows_are_found_from_the_free_memory(monkeypatch, model):
    monkeypatch.setattr(
        "arabic_dialog.models.decoding.free_memory",
        lambda device: 2 * 1000 * kv_bytes_per_token(model),
    )
    few = find_batch_size(model, 100)
    assert (
        1 <= few < 1000 // 100
        and find_batch_size(model, 300) <= few
        and find_batch_size(model, 10_000) == 1
    )


def test_only_the_likeliest_are_drawn_from_and_ties_stay():
    logits = torch.tensor([[3.0, 2.0, 2.0, 1.0, 0.0]]).repeat(2000, 1)
    u = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    none = torch.full((2000, 1), 4)
    for k, wanted in ((1, {0}), (2, {0, 1, 2}), (3, {0, 1, 2}), (0, {0, 1, 2, 3, 4}), (9, None)):
        drawn = pick_tokens(logits, none, Sampling(2.0, 1.0, 1.0, top_k=k), u)
        assert set(drawn.tolist()) == (wanted or {0, 1, 2, 3, 4}), k
    # nucleus after top_k, as transformers has it: of 3 and 2, 2 the first two cross 0.7
    drawn = pick_tokens(logits, none, Sampling(1.0, 0.7, 1.0, top_k=3), u)
    assert set(drawn.tolist()) == {0, 1}


SEARCH = Sampling(0, repetition_penalty=1.0, max_new_tokens=32, num_beams=4)


@pytest.mark.parametrize("n_beams", [2, 4])
def test_a_beam_search_finds_what_generate_finds(model, n_beams):
    prompts, stops = some_prompts(18, seed=1), list(range(200))
    search = replace(SEARCH, num_beams=n_beams)
    ours, n_same = write(model, prompts, 3 * n_beams, search, stops, kind=BeamPool), 0
    for i, p in prompts.items():
        theirs = model.generate(
            torch.tensor([p]),
            attention_mask=torch.ones(1, len(p), dtype=torch.long),
            num_beams=n_beams,
            do_sample=False,
            max_new_tokens=32,
            eos_token_id=stops,
            pad_token_id=0,
        )[0, len(p) :].tolist()
        if theirs[-1] in stops:
            assert ours[i] == (theirs[:-1], "stop")
            n_same += 1
        else:  # generate may prefer a text that was cut off to one that ended
            assert ours[i] == (theirs, "length") or ours[i][1] == "stop"
    assert n_same > 3 and len({tuple(new) for new, _ in ours.values()}) > 2


def test_a_penalty_and_a_least_length_hold_in_a_search_too(model):
    prompts, stops = some_prompts(8), list(range(200))
    plain = write(model, prompts, 24, SEARCH, stops, kind=BeamPool)
    least = replace(SEARCH, min_new_tokens=9)
    longer = write(model, prompts, 24, least, stops, kind=BeamPool)
    assert min(len(new) for new, _ in plain.values()) < 9
    assert min(len(new) for new, _ in longer.values()) >= 9
    penalised = replace(least, repetition_penalty=3.0)
    varied = write(model, prompts, 24, penalised, stops, kind=BeamPool)
    n_distinct = [sum(len(set(new)) / len(new) for new, _ in w.values()) for w in (longer, varied)]
    assert n_distinct[0] < n_distinct[1]


def test_a_search_does_not_depend_on_its_company(model):
    prompts = some_prompts(7)
    search = replace(SEARCH, num_beams=3)
    alone = {i: write(model, {i: p}, 3, search, kind=BeamPool)[i] for i, p in prompts.items()}
    for n_rows in (6, 21):
        assert write(model, prompts, n_rows, search, kind=BeamPool) == alone
    drawn = write(model, prompts, 7, replace(search, num_beams=1))
    assert alone != drawn


def test_a_search_ends_where_nothing_may_follow_and_repeats_nothing_it_should_not():
    model, prompts = make("gpt2"), some_prompts(6)
    free = write(model, prompts, 24, SEARCH, stops=(), kind=BeamPool)
    assert all(len(new) == 32 and why == "length" for new, why in free.values())
    no_pair = replace(SEARCH, no_repeat_ngram_size=2)
    barred = write(model, prompts, 24, no_pair, stops=(), kind=BeamPool)
    n_pairs = {i: len(set(zip(new, new[1:], strict=False))) for i, (new, _) in barred.items()}
    assert all(n_pairs[i] == len(new) - 1 for i, (new, _) in barred.items())
    assert any(len(set(zip(new, new[1:], strict=False))) < len(new) - 1 for new, _ in free.values())
    with torch.no_grad():  # only one token is ever likely, and it may not come again
        model.lm_head.weight[:] = model.lm_head.weight[:1]
    one = replace(SEARCH, num_beams=2, no_repeat_ngram_size=1, max_new_tokens=400)
    assert repeats_itself((5, 6, 5), 1) and not repeats_itself((5, 6, 7), 1)
    stuck = write(model, {0: [9]}, 2, replace(one, max_new_tokens=12), stops=(), kind=BeamPool)
    assert len(set(stuck[0][0])) == len(stuck[0][0])
