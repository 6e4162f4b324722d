"""Making and checking conversations, against plain copies of the same lines.

python benchmarks/bench_dataset.py [N]     N scenarios, 14,043 by default
"""
import sys, tempfile, time
from pathlib import Path

from arabic_dialog.core import Completion, Conversation, find_root, load_jsonl, save_jsonl
from arabic_dialog.generation import check, complete, plan_requests, scenario_words
from arabic_dialog.llm import make_engine
from arabic_dialog.settings import load_profile


def main(n=14_043):
    profile, root = load_profile("offline", overrides={"n_scenarios": str(n)}), find_root()
    requests, engine = plan_requests(profile, root), make_engine(profile)
    with tempfile.TemporaryDirectory() as d:
        path = Path(d)
        start = time.perf_counter(); complete(path, requests, engine, profile.sampling); made = time.perf_counter() - start
        start = time.perf_counter(); rows = load_jsonl(path/"completions.jsonl", Completion); save_jsonl(path/"copy.jsonl", rows); copied = time.perf_counter() - start
        start = time.perf_counter(); check(path, rows, [r.id for r in requests], profile, scenario_words(profile, root)); checked = time.perf_counter() - start
        kept = len(load_jsonl(path/"conversations.jsonl", Conversation))
    print(f"{n:,} completions: made at {n/made:,.0f}/s, checked at {n/checked:,.0f}/s ({kept:,} kept); reading and writing them again: {n/copied:,.0f}/s")
    print(f"ratios to reading and writing: making {made/copied:.1f} ×, checking {checked/copied:.1f} ×")


if __name__ == "__main__": main(*map(int, sys.argv[1:]))
