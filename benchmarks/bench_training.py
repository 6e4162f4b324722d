"""Training as this package sets it up, against TRL as it comes, and against a plain PyTorch loop
of the same step.

    python benchmarks/bench_training.py [--steps N] [--rounds N] [--layers N] [--width N]
    [--vocabulary N]

The same conversations in the same batches, one thread, no dropout, float32. Lengths as they may
be at the paper's scale (log-normal about 450 tokens, at most 1,024: assumed;
60 % of them trained).  ours: flat batches, logits where a token is trained.  padded: our loss,
with padding.  TRL: its trainer with padding, no packing and its own loss (activations
kept, as everywhere here).  plain: a loop written by hand that does what `ours` does. Trained
tokens/s; the ratios are medians over rounds in which each way takes a turn.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback

from arabic_dialog.models.loading import new_model
from arabic_dialog.finetuning.packing import packed
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.finetuning.trainer import Training, arguments, trainer_class
from trl import SFTTrainer  # after ours, which asks a package that it imports to be quiet

BATCH, HOW = 8, dict(learning_rate=1e-3, batch_size=8, seed=0, precision="float32", n_evaluations=1)


def make_rows(n, vocabulary):
    g = torch.Generator().manual_seed(0)
    lengths = torch.exp(torch.randn(n, generator=g) * 0.5 + 6.1).clamp(60, 1024).long().tolist()
    rows = []
    for k in lengths:
        ids = torch.randint(300, vocabulary, (k,), generator=g).tolist()
        rows.append(
            {"input_ids": ids, "labels": [i if p % 50 >= 20 else -100 for p, i in enumerate(ids)]}
        )  # turns of 20 and 30 tokens
    return rows


class Clock(TrainerCallback):
    def __init__(self):
        self.begun, self.took = None, []

    def on_step_begin(self, *args, **kwargs):
        now = time.perf_counter()
        if self.begun:
            self.took.append(now - self.begun)  # from step to step, with all that lies between
        self.begun = now


def by_trainer(way, model, tokenizer, rows, steps):
    "(seconds of each step, losses)"
    with tempfile.TemporaryDirectory() as d:
        args = arguments(Path(d), Training(steps=steps, **HOW), BATCH, way == "ours")
        args.eval_strategy = args.save_strategy = "no"
        args.eval_on_start = args.load_best_model_at_end = False
        args.logging_steps = 1
        trainer = (SFTTrainer if way == "TRL" else trainer_class())(
            model=model,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[clock := Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        with packed(model):
            trainer.train()
        return clock.took, [h["loss"] for h in trainer.state.log_history if "loss" in h]


def by_hand(model, tokenizer, rows, steps):
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=HOW["learning_rate"], betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, max(1, round(0.05 * steps)), steps
    )
    took, losses = [], []
    model.train()
    start = None
    with packed(model):
        for i in range(0, len(rows), BATCH):
            now = time.perf_counter()
            took += [now - start] if start else []
            start = now
            part = rows[i : i + BATCH]
            lengths = [len(r["input_ids"]) for r in part]
            cu = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)
            ids, labels = (
                torch.tensor([[x for r in part for x in r[k]]]) for k in ("input_ids", "labels")
            )
            labels[0, cu[:-1].long()] = -100
            positions = torch.cat([torch.arange(n) for n in lengths])[None]
            kept = (labels[0, 1:] != -100).nonzero().flatten()
            logits = model(
                input_ids=ids,
                position_ids=positions,
                cu_seq_lens_q=cu,
                use_cache=False,
                logits_to_keep=kept,
            ).logits[0]
            loss = torch.nn.functional.cross_entropy(logits, labels[0, 1:][kept])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return took, losses


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, n in (
        ("steps", 6),
        ("rounds", 3),
        ("layers", 4),
        ("width", 256),
        ("vocabulary", 16000),
    ):
        p.add_argument(f"--{name}", type=int, default=n)
    a = p.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    rows = make_rows(a.steps * BATCH, a.vocabulary)
    tokenizer = train_tokenizer([], 300)

    def model():
        m = new_model("gpt2", tokenizer, a.layers, a.width, a.width // 32, 1024, seed=0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            m.resize_token_embeddings(a.vocabulary, mean_resizing=False)
        return m

    lengths = [len(r["input_ids"]) for r in rows]
    padded = sum(max(lengths[i : i + BATCH]) * BATCH for i in range(0, len(rows), BATCH))
    trained = [
        sum(label != -100 for r in rows[i : i + BATCH] for label in r["labels"][1:])
        for i in range(0, len(rows), BATCH)
    ]
    print(
        f"{len(rows)} conversations of {min(lengths)} to {max(lengths)} tokens, mean "
        f"{sum(lengths) / len(rows):.0f}; padded batches compute {padded / sum(lengths):.2f} "
        "times as many; "
        f"{sum(p.numel() for p in model().parameters()) / 1e6:.1f} M parameters, vocabulary "
        f"{a.vocabulary:,}"
    )
    speeds, series = {w: [] for w in ("ours", "padded", "TRL", "plain")}, {}
    for _ in range(a.rounds):
        for way in speeds:
            took, series[way] = (
                by_hand(model(), tokenizer, rows, a.steps)
                if way == "plain"
                else by_trainer(way, model(), tokenizer, rows, a.steps)
            )
            speeds[way].append(
                sum(trained[1 : len(took)]) / sum(took[1:])
            )  # without the first, in which things are set up
        print(
            "  " + "  ".join(f"{w} {s[-1]:,.0f}" for w, s in speeds.items()),
            "trained tokens/s",
            flush=True,
        )
    for other in ("padded", "TRL", "plain"):
        ratios = [x / y for x, y in zip(speeds["ours"], speeds[other], strict=True)]
        apart = max(abs(x - y) for x, y in zip(series["ours"], series[other], strict=True))
        print(
            f"ours / {other}: {statistics.median(ratios):.2f}   "
            f"largest distance of a step's loss {apart:.1e}"
        )


if __name__ == "__main__":
    main()
