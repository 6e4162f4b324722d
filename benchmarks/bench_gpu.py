"""The published models at their real sizes, with random bfloat16 weights, against what the
hardware can do.

    python benchmarks/bench_gpu.py [decode] [train]
        with a GPU: the real configs; without one: tiny ones on the processor

decode: Jais-13b-chat, tokens/s at batch 1, 16 and 64, against the bandwidth limit: each step
reads all weights and all cached keys and
values once. train: both students at sequence 1024, tokens/s and the share of the matrix peak.
Bandwidth and peak are measured in the same run.
Random weights compute as long as real ones; what they write means nothing.
"""

import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM

from arabic_dialog.models.loading import config_class, load_checkpoints, model_facts

GPU = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", torch.bfloat16) if GPU else ("cpu", torch.float32)
TINY = dict(n_embd=256, n_layer=4, n_head=8, n_inner=683, vocab_size=4096, n_positions=512)
STUDENT_HEADS = {
    "riotu-lab/ArabianGPT-08B-V2": 20
}  # not published where we could read: 64 a head, as in GPT-2


def wait():
    if GPU:
        torch.cuda.synchronize()


def seconds(work, *arguments, n=5):
    "The best of `n` runs, after one to warm up"
    work(*arguments)
    wait()
    best = float("inf")
    for _ in range(n):
        start = time.perf_counter()
        work(*arguments)
        wait()
        best = min(best, time.perf_counter() - start)
    return best


def hardware():
    "(bytes/s read and written by a copy, FLOP/s of a matrix product)"
    n, m = (2**30, 8192) if GPU else (2**26, 1024)
    a = torch.empty(n, dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    x = torch.randn(m, m, device=DEVICE, dtype=DTYPE)
    y = torch.randn(m, m, device=DEVICE, dtype=DTYPE)
    return 2 * n / seconds(lambda: b.copy_(a)), 2 * m**3 / seconds(lambda: x @ y)


def config_of(name):
    "The real config of a published checkpoint on a GPU, a tiny one of its kind elsewhere"
    row = load_checkpoints()[name]
    kind = row["model_type"]
    sizes = (
        {k: int(v) for k, v in row.items() if k in TINY and v}
        if GPU
        else {k: v for k, v in TINY.items() if kind == "jais" or k != "n_inner"}
    )
    if GPU:
        sizes.setdefault("n_head", STUDENT_HEADS.get(name))
    extra = (
        dict(embeddings_scale=14.6, width_scale=0.11100000000000002, scale_qk_dot_by_d=True)
        if kind == "jais"
        else {}
    )
    return config_class({"model_type": kind})(
        **sizes,
        **extra,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def build(config):
    "A model with random weights, made where it will run"
    with torch.device(DEVICE):
        return AutoModelForCausalLM.from_config(config, dtype=DTYPE)


def write(model, ids, n):
    "Write n tokens after each row"
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=n,
        min_new_tokens=n,
        do_sample=False,
        pad_token_id=0,
    )


def step(model, optimizer, ids):
    "One step of training"
    model(ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def decode(bandwidth):
    config = config_of("inceptionai/jais-13b-chat")
    model = build(config).eval()
    facts = model_facts(config)
    size = (1 if GPU else 2) * facts.weight_bytes
    cached_bytes = facts.kv_bytes_per_token * (1 if GPU else 2)
    prompt, n_new = (450, 250) if GPU else (64, 32)
    for rows in (1, 16, 64):
        ids = torch.randint(1, config.vocab_size, (rows, prompt), device=DEVICE)
        with torch.inference_mode():
            whole, first = (
                seconds(write, model, ids, n_new, n=2),
                seconds(write, model, ids, 1, n=2),
            )
        step = (whole - first) / (n_new - 1)
        limit = (size + rows * (prompt + n_new / 2) * cached_bytes) / bandwidth
        yield dict(
            what="decode",
            model="jais-13b-chat",
            rows=rows,
            ms_a_step=1e3 * step,
            tokens_per_second=rows / step,
            limit=rows / limit,
            share=limit / step,
        )


def train(peak):
    length = 1024 if GPU else 128
    for name in ("aubmindlab/aragpt2-mega", "riotu-lab/ArabianGPT-08B-V2"):
        config = config_of(name)
        model = build(config).train()
        facts = model_facts(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=GPU)
        for rows in (4, 8, 16) if GPU else (2, 4):
            ids = torch.randint(1, config.vocab_size, (rows, length), device=DEVICE)
            try:
                took = seconds(step, model, optimizer, ids, n=3)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                print(f"{name}: {rows} rows do not fit")
                break
            tokens = rows * length / took
            yield dict(
                what="train",
                model=name.split("/")[1],
                rows=rows,
                length=length,
                tokens_per_second=tokens,
                share=tokens * facts.training_flop_per_token / peak,
                memory=torch.cuda.max_memory_allocated() if GPU else 0,
            )
        del model, optimizer
        if GPU:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help="decode, train; both where none is named")
    parser.add_argument("--json", help="a file for the figures")
    a = parser.parse_args()
    bandwidth, peak = hardware()
    rows = []
    if unknown := set(a.what) - {"decode", "train"}:
        parser.error(f"{sorted(unknown)[0]!r} is neither decode nor train")
    small = "no GPU: tiny configs on the processor; the shares say nothing of the real models"
    print(
        f"{torch.cuda.get_device_name() if GPU else small}: "
        f"{bandwidth / 1e9:,.0f} GB/s copied, {peak / 1e12:,.2f} TFLOP/s in matrix products"
    )
    for what, work in (("decode", lambda: decode(bandwidth)), ("train", lambda: train(peak))):
        for row in work() if not a.what or what in a.what else ():
            rows.append(row)
            print(
                "  ".join(
                    f"{k} {v:,.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                ),
                flush=True,
            )
    if a.json:
        with open(a.json, "w") as f:
            json.dump(
                {
                    "gpu": torch.cuda.get_device_name() if GPU else None,
                    "bandwidth": bandwidth,
                    "peak": peak,
                    "rows": rows,
                },
                f,
                indent=1,
            )


if __name__ == "__main__":
    main()
