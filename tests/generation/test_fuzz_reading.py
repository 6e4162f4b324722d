"""Files that were cut, flipped, filled with strange bytes or types: one line, or right records.

FUZZ=20000 python -m pytest tests/generation/test_fuzz_reading.py    for so many a reader
"""

import bz2
import copy
import csv
import gzip
import io
import json
import math
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arabic_dialog.core.records import SPEAKERS, Conversation, Turn, UserError
from arabic_dialog.generation.layouts import read_row
from arabic_dialog.generation.reading import iter_conversations, read_dataset
from arabic_dialog.generation.turns import LEAVE_OUT, Account, LeftOut
from arabic_dialog.metrics.rated import RatedTurn, load_rated

N = int(os.environ.get("FUZZ", "250"))

TALK = [
    {"role": "user", "content": "كيف أطبخ الكشري؟"},
    {"role": "assistant", "content": "جواب خاطئ\u2028", "weight": 0},
    {"role": "user", "content": "صحح 👩‍👩‍👧"},
    {"role": "assistant", "content": "اسلق العدس.", "weight": 1},
]
SHAREGPT = [{"from": "human", "value": "أين المتحف؟"}, {"from": "gpt", "value": "في الوسط."}]
ROWS = [
    {"id": "a", "messages": TALK},
    {"id": 2, "messages": [{"role": "system", "content": "أجب بإيجاز."}, *TALK[:2]], "lang": "ar"},
    {"conversations": SHAREGPT, "system": "", "topic": "museum", "country": "EG", "variant": 1},
    {"messages": {"role": ["user", "assistant"], "content": ["س", "ج"]}},
    {"instruction": "لخص", "input": "نص طويل", "output": "نص", "history": [["س", "ج"]]},
    {"prompt": "س", "completion": "ج", "split": "train"},
    {"prompt": TALK[:1], "chosen": TALK[3:], "rejected": TALK[1:2]},
    {
        "turns": [
            {"speaker": "user", "text": "س", "index": 0},
            {"speaker": "bot", "text": "ج", "index": 1},
        ]
    },
    {
        "id": "own",
        "scenario": {"id": "own", "topic": "tea", "country": "MA", "variant": 0},
        "turns": [{"speaker": "user", "text": "س"}, {"speaker": "assistant", "text": "ج"}],
        "model": "m",
    },
    {"messages": [TALK[0], {"role": "tool", "content": "٣٠"}, TALK[3]], "tools": [{"name": "sum"}]},
]
RATED = [
    {"context": ["سؤال"], "reply": f"جواب {k}", "rating": k % 5, "cluster": k // 2}
    for k in range(12)
]

NOTHING = object()
VALUES = [
    NOTHING, None, True, False, 0, 1, -1, 0.5, math.nan, math.inf, 10**400, 10**5000, "", " ", "نص",
    "user", "assistant", "system", "tool", "\ud83d", "[", "{}", "[1]", "\x00", [], [[]], [None],
    [1], {},
    {"role": "user"}, {"role": "gpt", "content": [{"type": "text", "text": "ج"}]},
    [{"type": "image"}],
    b"\xff", (1,), "2024-01-01T00:00:00Z", "0",
]  # fmt: skip
KEYS = [
    "role",
    "content",
    "from",
    "value",
    "weight",
    "index",
    "timestamp",
    "name",
    "tool_calls",
    "system",
]
KEYS += [
    "messages",
    "turns",
    "conversations",
    "prompt",
    "output",
    "id",
    "split",
    "tools",
    "untrained",
]
BYTES = [
    b"\x00", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85",
    b"\r", b"\n",
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"NaN", b"1e999", b"\\ud83d", b"\\u0000",
    b"null",
    b"-", b"9" * 5000, b"[" * 3000, b"PAR1", b"\x1f\x8b", "ض".encode("cp1256"), b"sep=;\n", b"\t",
    b";",
]  # fmt: skip


def mutated_bytes(rng, data):
    "A copy of `data` with one to three accidents"
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0:
                del data[a:]
            case 1:
                del data[a : min(b, a + 40)]
            case 2 if data:
                data[min(a, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 3:
                data[a:a] = rng.choice(BYTES)
            case 4:
                data[a:a] = rng.randbytes(rng.randint(1, 8))
            case 5:
                data[a:a] = data[a : min(b, a + 60)]
    return bytes(data)


def places(value, path=()):
    "Every place in nested lists and objects"
    if path:
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutated_value(rng, value):
    "A copy with one to three values exchanged, removed, doubled, or under another key"
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        spots = list(places(value))
        if not spots:
            break
        *path, last = rng.choice(spots)
        inner = value
        for key in path:
            inner = inner[key]
        new = rng.choice(VALUES)
        new = new if new is NOTHING else copy.deepcopy(new)
        if new is NOTHING:
            del inner[last]
        elif isinstance(inner, dict) and rng.random() < 0.3:
            inner[rng.choice(KEYS)] = inner.pop(last) if rng.random() < 0.5 else new
        elif isinstance(inner, list) and rng.random() < 0.3:
            inner.insert(rng.randrange(len(inner) + 1), rng.choice(inner))
        else:
            inner[last] = new
    return value


def check_message(error):
    text = str(error)
    assert text and "\n" not in text and len(text) < 2000, text[:300]


def check_conversation(c):
    assert isinstance(c, Conversation) and isinstance(c.id, str) and c.id
    assert isinstance(c.model, str) and isinstance(c.system, str) and c.turns
    assert all(type(t) is Turn and t.speaker == SPEAKERS[n % 2] for n, t in enumerate(c.turns))
    assert all(isinstance(t.text, str) for t in c.turns)
    assert all(c.turns[n].speaker == "assistant" for n in c.untrained)
    assert isinstance(c.scenario.variant, int)


def check_account(account, n_kept):
    assert account.rows == account.kept + account.left_out.total() and account.kept == n_kept, (
        account
    )
    assert all(n > 0 for n in [*account.left_out.values(), *account.notes.values()])


def read_all(path, leave_out):
    "The conversations of a file, checked; None where it is refused"
    account, kept = Account(), []
    try:
        for _, c in iter_conversations(path, account, leave_out):
            kept.append(c)
    except UserError as e:
        check_message(e)
        return None
    for c in kept:
        check_conversation(c)
        (c.text + c.system + c.id).encode()  # whole characters, which a file can hold
    check_account(account, len(kept))
    return kept


def json_lines(rows):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()


def parquet(rows, write):
    buffer = io.BytesIO()
    write(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def arrow(table, buffer):
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)


def comma_separated(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


ALIKE = [
    {"id": f"c{k}", "messages": [{"role": "user", "content": f"س {k}"}, TALK[3]]} for k in range(6)
]
PAIRS = [{"prompt": f"س {k}", "completion": f"ج {k}"} for k in range(6)]
FILES = {
    "rows.jsonl": json_lines(ROWS),
    "rows.json": json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    "data.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "sixteen.jsonl": json_lines(ROWS).decode().encode("utf-16"),
    "rows.jsonl.gz": gzip.compress(json_lines(ROWS)),
    "rows.jsonl.bz2": bz2.compress(json_lines(ROWS)),
    "rows.jsonl.zst": pa.compress(json_lines(ROWS), "zstd", asbytes=True),
    "pairs.csv": comma_separated(PAIRS),
    "rows.parquet": parquet(ALIKE, pq.write_table),
    "rows.arrow": parquet(ALIKE, arrow),
}


@pytest.mark.parametrize("name", FILES)
def test_a_spoiled_file_is_refused_in_one_line_or_read_right(name, tmp_path):
    rng, path = random.Random(f"bytes {name}"), tmp_path / name
    path.write_bytes(FILES[name])
    whole = read_all(path, ["system", "tools"])
    assert whole and len(whole) in (6, 9)
    n_read = 0
    for k in range(N):
        path.write_bytes(mutated_bytes(rng, FILES[name]))
        n_read += read_all(path, LEAVE_OUT if k % 2 else ()) is not None
    assert n_read < N


def test_what_is_left_of_a_file_that_breaks_off_is_as_it_was(tmp_path):
    data, path = json_lines(ROWS), tmp_path / "rows.jsonl"
    path.write_bytes(data)
    whole = read_all(path, LEAVE_OUT)
    for k in range(3, len(data), 7):
        path.write_bytes(data[:k])
        kept = read_all(path, LEAVE_OUT)
        if kept is not None:
            assert [c.turns for c in kept] == [c.turns for c in whole[: len(kept)]]


def test_a_row_of_strange_types_is_refused_in_one_line_or_read_right():
    rng = random.Random("rows")
    n_read = 0
    for k in range(4 * N):
        account, leave_out = Account(), LEAVE_OUT if k % 2 else ()
        try:
            check_conversation(
                read_row(
                    mutated_value(rng, ROWS[k % len(ROWS)]), "f.jsonl, row 7", leave_out, account
                )
            )
            n_read += 1
        except LeftOut as e:
            assert leave_out and e.why == "tools"
        except UserError as e:
            check_message(e)
            assert str(e).startswith("f.jsonl, row 7")
    assert N / 4 < n_read < 4 * N


def test_a_file_of_strange_rows_keeps_or_counts_each_of_them(tmp_path):
    rng, path = random.Random("files of rows"), tmp_path / "rows.jsonl"
    for _ in range(N):
        rows = [mutated_value(rng, r) if rng.random() < 0.5 else r for r in ROWS]
        lines = []
        for row in rows:
            try:
                lines.append(
                    json.dumps(row, ensure_ascii=rng.random() < 0.5).encode(errors="replace")
                )
            except (TypeError, ValueError):  # what JSON cannot hold
                lines.append(b"{")
        path.write_bytes(b"\n".join(lines) + b"\n")
        try:
            data = read_dataset(path, LEAVE_OUT)
        except UserError as e:
            check_message(e)
            continue
        account = data.account
        assert account.rows == len(rows) == account.kept + account.left_out.total()
        ids = [c.id for part in data.splits.values() for c in part]
        assert len(ids) == len(set(ids)) == account.kept
        assert account.turns == sum(len(c.turns) for part in data.splits.values() for c in part)


@pytest.mark.parametrize("name", ["rated.jsonl", "rated.csv", "rated.parquet"])
def test_spoiled_ratings_are_refused_in_one_line_or_read_right(name, tmp_path):
    rng, path = random.Random(f"rated {name}"), tmp_path / name
    cells = [r | {"context": json.dumps(r["context"])} for r in RATED]
    data = {
        "rated.jsonl": json_lines(RATED),
        "rated.csv": comma_separated(cells),
        "rated.parquet": parquet(RATED, pq.write_table),
    }[name]
    path.write_bytes(data)
    assert [t.rating for t in load_rated(path)["rated"]] == [r["rating"] for r in RATED]
    for k in range(N):
        spoiled = mutated_bytes(rng, data)
        if name == "rated.jsonl" and k % 2:
            rows = [mutated_value(rng, r) if rng.random() < 0.3 else r for r in RATED]
            try:
                spoiled = json.dumps(rows).encode()
            except (TypeError, ValueError):
                pass
        path.write_bytes(spoiled)
        try:
            turns = load_rated(tmp_path if k % 3 else path)["rated"]
        except UserError as e:
            check_message(e)
            continue
        for t in turns:
            assert isinstance(t, RatedTurn) and isinstance(t.reply, str) and math.isfinite(t.rating)
            assert all(isinstance(c, str) for c in t.context) and isinstance(t.cluster, str)
