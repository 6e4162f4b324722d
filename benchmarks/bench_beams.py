"""Beam search beside `generate` of transformers (same model, prompts and beams), and what
a search costs beside greedy decoding.

python benchmarks/bench_beams.py [N] [BEAMS]     N prompts (60), BEAMS beams (6)

The model is the base ArabianGPT of this package, and the prompts are halves of its own kind of
texts, so that texts end as they do in a run.
"""

import logging
import sys
import time
from dataclasses import replace

import torch

from arabic_dialog.core.files import data_path
from arabic_dialog.core.records import Request, Sampling
from arabic_dialog.finetuning.prose import Prose, load_recipe
from arabic_dialog.models.engines import TransformersEngine
from arabic_dialog.models.loading import load_model
from arabic_dialog.models.tokenizers import load_tokenizer

ROWS = 60


def half_texts(n):
    prose = Prose.of(load_recipe("arabiangpt"))
    texts = (prose.text("conversation", s, "bench") for s in prose.order("bench")[:n])
    return [text[: len(text) // 2].rsplit("\n", 1)[0] + "\n" for text in texts]


def searched(model, tokenizer, prompts, sampling):
    engine = TransformersEngine(model, tokenizer, "bench", ROWS, framed=True)
    requests = [Request(str(i), prompt) for i, prompt in enumerate(prompts)]
    texts = {c.scenario_id: c.text for c in engine.complete(requests, sampling)}
    return [texts[r.id] for r in requests]


def generated(model, tokenizer, prompts, sampling):
    "In batches of prompts of about the same length, which is what `generate` is best at"
    tokenizer.padding_side, texts = "left", {}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    each = max(1, ROWS // sampling.num_beams)
    for start in range(0, len(order), each):
        part = order[start : start + each]
        texts_of_part = [prompts[i] for i in part]
        ids = tokenizer(texts_of_part, return_tensors="pt", padding=True, add_special_tokens=False)
        made = model.generate(
            **{name: ids[name] for name in ("input_ids", "attention_mask")},
            num_beams=sampling.num_beams,
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )[:, ids["input_ids"].shape[1] :]
        for i, new in zip(part, made, strict=True):
            texts[i] = tokenizer.decode(new, skip_special_tokens=True).strip()
    return [texts[i] for i in range(len(prompts))]


def timed(way, *args):
    start = time.perf_counter()
    made = way(*args)
    return made, time.perf_counter() - start


def main(n=60, beams=6):
    logging.disable(logging.WARNING)
    folder = data_path("bases", "arabiangpt")
    model, tokenizer = load_model(folder, dtype="float32").eval(), load_tokenizer(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    search = Sampling(0, repetition_penalty=1.0, max_new_tokens=96, num_beams=beams)
    prompts = half_texts(n)
    searched(model, tokenizer, prompts[:2], search)  # the first call of all is slower
    print(f"{n} prompts, {beams} beams, {torch.get_num_threads()} threads")
    ours, seconds = timed(searched, model, tokenizer, prompts, search)
    theirs, generate_seconds = timed(generated, model, tokenizer, prompts, search)
    _, greedy_seconds = timed(searched, model, tokenizer, prompts, replace(search, num_beams=1))
    pairs = list(zip(ours, theirs, strict=True))
    most = search.max_new_tokens
    ended = [pair for pair in pairs if len(tokenizer(pair[1])["input_ids"]) < most]
    same = sum(a == b for a, b in ended)
    print(f"generate takes {generate_seconds / seconds:.2f} × as long")
    print(f"of {len(ended)} texts that generate ends {same} are the same")
    print(f"a search takes {seconds / greedy_seconds:.2f} × as long as greedy decoding")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
