"""Making conversations, and checking them, against plain copies of the same lines, at several sizes.

python benchmarks/bench_dataset.py [N …]     sizes, 5,000 20,000 43,316 by default; 200000 takes minutes
"""

import resource, sys, tempfile, time
from pathlib import Path

from arabic_dialog.generation.completing import make_engine
from arabic_dialog.generation.completing import CompletionLog
from arabic_dialog.core.files import find_root, iter_jsonl, to_json
from arabic_dialog.core.records import Completion
from arabic_dialog.generation.checking import check, load_gate
from arabic_dialog.generation.dataset import complete
from arabic_dialog.generation.scenarios import make_prompter, plan_profile
from arabic_dialog.core.settings import load_profile


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def memory():
    "Peak memory so far, GiB: of this process, and of the largest that it started"
    return [
        resource.getrusage(w).ru_maxrss / 2**20
        for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]


def main(*sizes):
    root, gate, engine, speeds = find_root(), None, None, {}
    with tempfile.TemporaryDirectory() as d, CompletionLog(Path(d) / "log.jsonl") as log:
        path = Path(d)
        for n in sorted(sizes or (5_000, 20_000, 43_316)):
            profile = load_profile(
                "offline", overrides={"n_scenarios": str(n), "variants": str(1 + n // 14_043)}
            )
            plan = plan_profile(profile, root)
            requests = list(map(make_prompter(profile, root), plan))
            before = len(log)
            gate, engine = gate or load_gate(profile, root), engine or make_engine(profile)
            made = timed(lambda: complete(path, log, requests, lambda: engine, profile))
            del requests

            def copy():
                with (path / "copy.jsonl").open("w", encoding="utf-8") as f:
                    f.writelines(
                        to_json(c) + "\n"
                        for c in iter_jsonl(path / "completions.jsonl", Completion)
                    )

            copied = timed(copy)
            with (path / "completions.jsonl").open("rb") as lines:
                checked = timed(lambda: check(path, lines, plan, gate, 1, workers=2))
            own, child = memory()
            speeds[n] = n / checked
            print(
                f"{n:,}: made at {(n - before) / made:,.0f}/s; parsed, checked, deduplicated and written at {n / checked:,.0f}/s by two processes, {checked / copied:.1f} × "
                f"reading and writing them in one; peak {own:.2f} GiB, and at most {child:.2f} GiB in each of them",
                flush=True,
            )
    first, *_, last = speeds
    print(
        f"per conversation, {last:,} take {speeds[first] / speeds[last]:.2f} × as long as {first:,}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
