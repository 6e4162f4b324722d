"""Making conversations, and checking them, against plain copies of the same lines, at several
sizes.

python benchmarks/bench_dataset.py [N …]
    sizes, 5,000 20,000 43,316 by default; 200000 takes minutes
"""

import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from arabic_dialog.generation.completing import make_engine
from arabic_dialog.generation.completing import CompletionLog
from arabic_dialog.core.files import find_root, iter_jsonl, to_json
from arabic_dialog.core.records import Completion
from arabic_dialog.generation.checking import check, load_gate
from arabic_dialog.generation.dataset import complete
from arabic_dialog.generation.scenarios import make_prompter, plan_profile
from arabic_dialog.core.settings import load_profile


def timed(work, *arguments, **named):
    start = time.perf_counter()
    work(*arguments, **named)
    return time.perf_counter() - start


def memory():
    "Peak memory so far, GiB: of this process, and of the largest that it started"
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return [resource.getrusage(w).ru_maxrss / 2**20 for w in whose]


def copy(path):
    "Read the completions and write them again: the least that any check of them does"
    records = iter_jsonl(path / "completions.jsonl", Completion)
    with (path / "copy.jsonl").open("w", encoding="utf-8") as f:
        f.writelines(to_json(c) + "\n" for c in records)


def measure(n, path, log):
    "Conversations checked in a second, of n; says what it measured"
    root = find_root()
    sizes = {"n_scenarios": str(n), "variants": str(1 + n // 14_043)}
    profile = load_profile("offline", overrides=sizes)
    plan = plan_profile(profile, root)
    requests = list(map(make_prompter(profile, root), plan))
    before = len(log)
    engine = partial(make_engine, profile)
    made = timed(complete, path, log, requests, engine, profile)
    copied = timed(copy, path)
    gate = load_gate(profile, root)
    with (path / "completions.jsonl").open("rb") as lines:
        checked = timed(check, path, lines, plan, gate, 1, workers=2)
    own, child = memory()
    print(
        f"{n:,}: made at {(n - before) / made:,.0f}/s; parsed, checked, deduplicated and written "
        f"at {n / checked:,.0f}/s by two processes, {checked / copied:.1f} × reading and writing "
        "them "
        f"in one; peak {own:.2f} GiB, and at most {child:.2f} GiB in each of them",
        flush=True,
    )
    return n / checked


def main(*sizes):
    with tempfile.TemporaryDirectory() as d, CompletionLog(Path(d) / "log.jsonl") as log:
        every = sorted(sizes or (5_000, 20_000, 43_316))
        speeds = {n: measure(n, Path(d), log) for n in every}
    first, last = every[0], every[-1]
    ratio = speeds[first] / speeds[last]
    print(f"per conversation, {last:,} take {ratio:.2f} × as long as {first:,}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
