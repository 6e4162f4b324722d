"""The native classes against transformers' own GPT-2 of equal size: one forward pass, and
decoding with the cache.

    python benchmarks/bench_architectures.py [--rounds 9]

The sides take turns in one process; a ratio is the median over rounds of (native time / GPT-2's
time in the same round). Same width, layers
and heads; Jais has its two upward matrices at two thirds of the inner width, so that the
parameters agree.
"""

import argparse
import statistics
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from arabic_dialog.models.aragpt2 import AraGPT2Config, AraGPT2ForCausalLM
from arabic_dialog.models.jais import JaisConfig, JaisForCausalLM

SIZE = dict(
    vocab_size=8000,
    n_positions=512,
    n_embd=512,
    n_layer=6,
    n_head=8,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=0,
    eos_token_id=0,
)
SIDES = {
    "GPT-2": (GPT2LMHeadModel, GPT2Config(**SIZE, n_inner=2048)),
    "AraGPT2": (AraGPT2ForCausalLM, AraGPT2Config(**SIZE, n_inner=2048)),
    "Jais": (JaisForCausalLM, JaisConfig(**SIZE, n_inner=1365)),
}
LIMITS = {"AraGPT2": 1.05, "Jais": 1.15}


def make(cls, config):
    torch.manual_seed(0)
    return cls(config).eval()


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def forward(model, rows=4, length=256):
    ids = torch.randint(1, 8000, (rows, length), generator=torch.Generator().manual_seed(0))
    return lambda: model(ids, use_cache=False)


def decode(model, rows=4, length=64, n_new=48):
    ids = torch.randint(1, 8000, (rows, length), generator=torch.Generator().manual_seed(0))
    return lambda: model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=n_new,
        min_new_tokens=n_new,
        do_sample=False,
        pad_token_id=0,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    a = parser.parse_args()
    models = {n: make(*s) for n, s in SIDES.items()}
    print(
        ", ".join(f"{n} {m.num_parameters() / 1e6:.1f} M parameters" for n, m in models.items()),
        f"; {torch.get_num_threads()} threads; median of {a.rounds} rounds",
    )
    with torch.inference_mode():
        for what, work in (
            ("forward, 4 × 256 tokens", forward),
            ("decode, 4 rows × 48 tokens after 64", decode),
        ):
            jobs = {n: work(m) for n, m in models.items()}
            for job in jobs.values():
                job()
            times = {n: [] for n in jobs}
            for r in range(a.rounds):
                for n in list(jobs) if r % 2 else list(jobs)[::-1]:
                    times[n].append(seconds(jobs[n]))
            for n in list(jobs)[1:]:
                ratios = [x / y for x, y in zip(times[n], times["GPT-2"], strict=True)]
                print(
                    f"{what:38} {n:8} / GPT-2: {statistics.median(ratios):.3f}   "
                    f"({min(ratios):.3f} … {max(ratios):.3f}; aim at most {LIMITS[n]})"
                )


if __name__ == "__main__":
    main()
