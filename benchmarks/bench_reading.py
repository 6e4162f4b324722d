"""Reading a dataset of one's own with every check, against the rows parsed and built without any,
and against the reader that this package had before (JSON Lines and Parquet in three layouts).

python benchmarks/bench_reading.py [N]
    conversations, 40,000 by default
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from arabic_dialog.core.files import from_dict, iter_jsonl, save_jsonl
from arabic_dialog.core.records import SPEAKERS, Conversation, Scenario, Turn
from arabic_dialog.generation.exports import render_row, render_sharegpt, write_jsonl, write_parquet
from arabic_dialog.generation.reading import iter_conversations, read_conversations
from arabic_dialog.generation.turns import Account
from arabic_dialog.metrics.spoiling import sample_conversations

ROUNDS = 3
ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


def before(path):
    "The reader as it was: roles, types and order are looked at, and nothing else"
    rows = iter_jsonl(path) if path.suffix == ".jsonl" else pq.read_table(path).to_pylist()
    conversations = []
    for n, row in enumerate(rows, 1):
        name = f"{path.name}, row {n}"
        if "turns" in row:
            conversations.append(from_dict(Conversation, dict(row), name))
            continue
        key, role, text = (
            ("messages", "role", "content")
            if "messages" in row
            else ("conversations", "from", "value")
        )
        messages = row[key]
        assert isinstance(messages, list) and all(
            isinstance(m, Mapping) and isinstance(m.get(text), str) and m.get(role) in ROLES
            for m in messages
        )
        spoken = [m for m in messages if ROLES[m[role]] != "system"]
        turns = tuple(Turn(ROLES[m[role]], m[text]) for m in spoken)
        assert turns and not any(t.speaker != SPEAKERS[i % 2] for i, t in enumerate(turns))
        id = str(row.get("id") or name)
        topic, country = str(row.get("topic") or ""), str(row.get("country") or "")
        scenario = Scenario(id, topic, country, int(row.get("variant") or 0))
        conversations.append(Conversation(id, scenario, turns, str(row.get("model") or "")))
    return conversations


def parsed(path):
    "The rows alone"
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def seconds(read, path):
    start = time.process_time()
    read(path)
    return time.process_time() - start


def fastest(path, *readers):
    "The least time of each reader, in turn, so that a noisy machine wrongs none"
    rounds = [[seconds(read, path) for read in readers] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*rounds, strict=True)]


def main(n=40_000):
    folder = Path(tempfile.mkdtemp())
    sample = sample_conversations(800, "calibration")
    conversations = [sample[k % len(sample)] for k in range(n)]
    save_jsonl(folder / "own.jsonl", conversations)
    write_jsonl(folder / "messages.jsonl", map(render_row, conversations))
    write_jsonl(folder / "sharegpt.jsonl", map(render_sharegpt, map(render_row, conversations)))
    write_parquet(folder / "messages.parquet", map(render_row, conversations))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in iter_conversations(folder / "messages.jsonl", Account()):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    size = (folder / "messages.jsonl").stat().st_size
    print(f"{n:,} conversations, {size / 2**20:.0f} MiB; read one at a time: {peak / 1024:.1f} MiB")
    for name in ("own.jsonl", "messages.jsonl", "sharegpt.jsonl", "messages.parquet"):
        path = folder / name
        now, then, least = fastest(path, read_conversations, before, parsed)
        assert [c.turns for c in read_conversations(path)] == [c.turns for c in before(path)]
        ratios = f"{now / then:.2f} × the reader before, {now / least:.2f} × parsing alone"
        print(f"  {name:18} {ratios}  ({n / now:,.0f} conversations/s)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
