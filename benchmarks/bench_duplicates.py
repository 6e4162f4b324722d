"""Near-duplicate search against datasketch, on the same texts with planted duplicates.

python benchmarks/bench_duplicates.py [N]
    N conversations of the embedded generator, 5,000 by default; a tenth as many are planted
"""

import random
import sys
import time

from arabic_dialog.core.arabic import shingles
from arabic_dialog.generation.duplicates import DuplicateIndex, find_near_duplicates, jaccard
from arabic_dialog.generation.grammar import Grammar

THRESHOLD = 0.8


def make_texts(n):
    "n conversations of all topics and countries, and n/10 spoilt copies of some, in random order"
    grammar, chance = Grammar.load(), random.Random(0)
    pairs = [(t, c) for t in grammar.lexica for c in grammar.countries]
    texts = [
        "\n".join(
            t.text
            for t in grammar.dialogue(*chance.choice(pairs), chance, chance.choice((4, 6, 8)))
        )
        for _ in range(n)
    ]
    for text in chance.sample(texts, n // 10):
        w = text.split(" ")
        for _ in range(chance.randrange(0, max(2, len(w) // 20))):
            w[chance.randrange(len(w))] = chance.choice(texts).split(" ")[0]
        texts.append(" ".join(w))
    chance.shuffle(texts)
    return texts


def with_datasketch(texts, bulk=True):
    """As datasketch documents it: what shares a band with an earlier kept text is a duplicate;
    sketches are made in bulk, or shingle by shingle
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        sys.exit("this benchmark compares with datasketch: pip install datasketch")
    index, found = MinHashLSH(threshold=THRESHOLD, num_perm=128), {}

    def one(t):
        m = MinHash(num_perm=128, seed=1)
        for s in shingles(t):
            m.update(s.encode())
        return m

    sketches = (
        MinHash.generator(([s.encode() for s in shingles(t)] for t in texts), num_perm=128, seed=1)
        if bulk
        else map(one, texts)
    )
    for i, m in enumerate(sketches):
        near = index.query(m)
        if near:
            found[i] = min(near)
        else:
            index.insert(i, m)
    return found


def brute_force(texts):
    "Texts that are too like an earlier kept one, every pair compared that shares a shingle"
    sets, having, true = [shingles(t) for t in texts], {}, {}
    for i, s in enumerate(sets):
        shared = {}
        for x in s:
            for j in having.get(x, ()):
                shared[j] = shared.get(j, 0) + 1
        near = max(
            ((n / (len(s) + len(sets[j]) - n), -j) for j, n in shared.items()), default=(0, 0)
        )
        if near[0] >= THRESHOLD:
            true[i] = -near[1]
        else:
            for x in s:
                having.setdefault(x, []).append(i)
    return true


def timed(f, texts):
    start = time.process_time()
    out = f(texts)
    return out, time.process_time() - start


def main(n=5_000):
    texts = make_texts(n)
    DuplicateIndex().add(0, texts[0])
    true = brute_force(texts)
    (ours, t_ours), (theirs, t_theirs) = (
        timed(lambda x: find_near_duplicates(x, THRESHOLD), texts),
        timed(with_datasketch, texts),
    )
    _, t_single = timed(lambda x: with_datasketch(x, False), texts)

    def precision(found):
        pairs = [(shingles(texts[i]), shingles(texts[j])) for i, j in found.items()]
        return sum(jaccard(a, b) >= THRESHOLD for a, b in pairs) / max(len(pairs), 1)

    print(
        f"{len(texts):,} texts, of which {len(true):,} are near-duplicates (Jaccard similarity "
        f"of word 3-shingles of at least {THRESHOLD})"
    )
    for name, found, seconds in (
        ("here", {i: j for i, (j, _) in ours.items()}, t_ours),
        ("datasketch", theirs, t_theirs),
    ):
        print(
            f"{name:10} recall {len(found.keys() & true.keys()) / len(true):.4f}, precision "
            f"{precision(found):.4f}, {seconds / len(texts) * 1e6:,.0f} µs a "
            "text"
        )
    print(
        f"ratios of times to here: datasketch in bulk {t_theirs / t_ours:.1f} ×, shingle by "
        f"shingle, as its first example {t_single / t_ours:.1f} ×"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
