"""Refilled batches against transformers' own ways to complete many prompts: same model, prompts,
machine and sampling.

python benchmarks/bench_generation.py [N] [ROWS]     N prompts (128) in batches of ROWS (32)

The model is a GPT-2 of 4 layers, width 320, with random weights, sharpened to the entropy of a
real one. Its end-of-text token is about as likely at
every step, so that most replies are short and a
few have 256 tokens. One prompt at a time is timed on every eighth prompt.
"""

import logging
import random
import sys
import time

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    pipeline,
)

from arabic_dialog.core.records import Request, Sampling
from arabic_dialog.models.engines import TransformersEngine

VOCABULARY, EOS, MEAN = 8192, 0, 48  # MEAN: tokens of a reply, about
LENGTHS = []


def make_tokenizer():
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=f"w{EOS}",
        pad_token=f"w{EOS}",
        unk_token="w1",
        padding_side="left",
    )


def make_model(sampling):
    "A model whose replies end at any step with probability 1/MEAN, about"
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=512,
            n_embd=320,
            n_layer=4,
            n_head=5,
            bos_token_id=EOS,
            eos_token_id=EOS,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
        )
    ).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(6)
        model.transformer.wte.weight[:, 0] = (
            0  # one direction of the width is for the end of the text alone
        )
        model.transformer.ln_f.weight[0], model.transformer.ln_f.bias[0] = 0, 1
        logits = model(torch.randint(1, VOCABULARY, (8, 64))).logits[..., 1:] / sampling.temperature
        model.transformer.wte.weight[EOS] = 0
        model.transformer.wte.weight[EOS, 0] = sampling.temperature * (
            logits.logsumexp(-1).mean() - torch.log(torch.tensor(MEAN - 1.0))
        )
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=0,
        eos_token_id=EOS,
        pad_token_id=EOS,
        repetition_penalty=sampling.repetition_penalty,
        max_new_tokens=sampling.max_new_tokens,
    )
    return model


def n_new(ids, prompt):
    return next(
        (i + 1 for i, t in enumerate(ids[len(prompt) :]) if t == EOS), len(ids) - len(prompt)
    )


def refilled(model, tokenizer, prompts, rows, sampling):
    engine = TransformersEngine(model, tokenizer, "bench", rows)
    for c in engine.complete([Request(str(i), p) for i, p in enumerate(prompts)], sampling):
        LENGTHS.append(len(c.text.split()))
    return engine.n_tokens


def one_by_one(model, tokenizer, prompts, rows, sampling):
    n = 0
    for p in prompts[::8]:
        ids = tokenizer(p, return_tensors="pt")
        n += n_new(model.generate(**ids)[0].tolist(), ids["input_ids"][0])
    return n


def pipelined(model, tokenizer, prompts, rows, sampling):
    write = pipeline("text-generation", model=model, tokenizer=tokenizer, batch_size=rows)
    return sum(
        n_new(out[0]["generated_token_ids"], tokenizer(p)["input_ids"])
        for p, out in zip(prompts, write(list(prompts), return_tensors=True), strict=True)
    )


def continuous(model, tokenizer, prompts, rows, sampling):
    made = model.generate_batch(
        [tokenizer(p)["input_ids"] for p in prompts], generation_config=model.generation_config
    )
    if len(made) < len(prompts):
        raise RuntimeError(f"{len(prompts) - len(made)} prompts were lost")
    return sum(len(m.generated_tokens) for m in made.values())


def main(n=128, rows=32):
    logging.disable(logging.WARNING)
    sampling = Sampling(temperature=0.8, top_p=0.9, repetition_penalty=1.0, max_new_tokens=256)
    tokenizer, model, draw = make_tokenizer(), make_model(sampling), random.Random(0)
    prompts = [
        " ".join(f"w{draw.randrange(1, VOCABULARY)}" for _ in range(draw.randint(24, 96)))
        for _ in range(n)
    ]
    print(f"{n} prompts, {rows} rows, {torch.get_num_threads()} threads")
    speed = {}
    for way in (refilled, one_by_one, pipelined, continuous):
        if way is refilled:
            way(model, tokenizer, prompts[:2], 2, Sampling(max_new_tokens=4))
            LENGTHS.clear()  # the first call of all is slower
        start = time.perf_counter()
        try:
            made = way(model, tokenizer, prompts, rows, sampling)
        except Exception as e:
            print(f"{way.__name__}: does not run here: {type(e).__name__}: {str(e)[:120]}")
            continue
        seconds = time.perf_counter() - start
        speed[way] = made / seconds
        if way is refilled:
            print(
                f"replies of {min(LENGTHS)} to {max(LENGTHS)} tokens, half of them no longer "
                f"than {sorted(LENGTHS)[len(LENGTHS) // 2]}"
            )
        print(
            f"{way.__name__}: {made:,} tokens in {seconds:.1f} s, {speed[way]:,.0f}/s; refilled "
            f"batches are {speed[refilled] / speed[way]:.2f} × as fast"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
