"""Damage to files, seeded: bytes cut, flipped and inserted, lines moved, types exchanged.

python tests/fuzzing.py [N] [READER …]    N damaged files for each reader of test_fuzz.py (20,000)
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

TOKENS = [
    *(b"", b"\x00", b"\xff", b"\xfe", b'"', b"'", b",", b";", b"\t", b"\r", b"\n", b"\r\n", b"{"),
    *(b"}", b"[", b"]", b":", b"=", b"#", b"%", b"\\", b"\\u0000", b"\\ud800", b"null", b"NaN"),
    *(b"-1", b"1e999", b"0.1", b"9" * 400, b"9" * 5000, b"[" * 2000, b'{"a":' * 1500, b"true"),
    *("\u202e".encode(), "\u200f".encode(), "٤".encode(), "\u2028".encode(), "خبز".encode()),
    *(b"\xef\xbb\xbf", b"\xc0\xaf", b"\xed\xa0\x80", b"sep=;\n", b"../..", b"<script>", b"None"),
]
VALUES = [None, True, False, 0, -1, 4, 4.5, 1e300, 10**30, "", "خبز", "4", "\x00", "\ud800", [], {}]
VALUES += [[[]], [None], {"": None}, {"id": {}}, "x" * 5000, ["a", 1, None], float("nan"), -0.0]


def damaged(raw: bytes, rng: random.Random) -> bytes:
    "One to four damages to bytes"
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        raw = rng.choice(DAMAGES)(raw, rng)
    return raw


def _cut(raw: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(raw) + 1)
    return raw[:start] + raw[start + rng.choice([1, 2, 10, 10**9]) :]


def _flip(raw: bytes, rng: random.Random) -> bytes:
    if not raw:
        return raw
    place = rng.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ (1 << rng.randrange(8))]) + raw[place + 1 :]


def _insert(raw: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(raw) + 1)
    return raw[:place] + rng.choice(TOKENS) + raw[place:]


def _repeat(raw: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(raw) + 1)
    return raw[:start] + raw[start : start + rng.choice([1, 30, 300])] * 2 + raw[start:]


def _lines(raw: bytes, rng: random.Random) -> bytes:
    lines = raw.split(b"\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[place], lines[other] = lines[other], lines[place]
    if rng.random() < 0.5:
        del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def _swap_word(raw: bytes, rng: random.Random) -> bytes:
    words = raw.split(b",")
    words[rng.randrange(len(words))] = rng.choice(TOKENS)
    return b",".join(words)


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    "Each place of a structure, as its holder and key"
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield data, key
            yield from _places(data[key])


def _exchange(raw: bytes, rng: random.Random) -> bytes:
    "Put another type in the place of a value of JSON, or take a key away"
    lines = raw.split(b"\n") if raw.count(b"\n{") else [raw]
    n = rng.randrange(len(lines))
    try:
        data = json.loads(lines[n])
    except (ValueError, RecursionError):
        return _insert(raw, rng)
    places = list(_places(data))
    if not places:
        return json.dumps(rng.choice(VALUES)).encode()
    holder, key = rng.choice(places)
    if isinstance(holder, dict) and rng.random() < 0.25:
        value = holder.pop(key)
        if rng.random() < 0.5:
            holder[rng.choice(["", "ID", "data", "id", str(key).upper()])] = value
    else:
        holder[key] = rng.choice(VALUES)
    lines[n] = json.dumps(data).encode()
    return b"\n".join(lines)


DAMAGES = [_cut, _flip, _insert, _repeat, _lines, _swap_word, _exchange, _exchange, _exchange]


def survey(
    name: str, raws: list[bytes], read: Callable[[bytes], Any], n: int, seed: int = 0
) -> Any:
    "What became of `n` damaged files: how many were read and refused; an exception goes through"
    from arabic_dialog.core.records import UserError

    rng, counts = random.Random(f"{name} {seed}"), {"read": 0, "refused": 0}
    for k in range(n):
        raw = damaged(rng.choice(raws), rng)
        try:
            read(raw)
            counts["read"] += 1
        except UserError as e:
            assert str(e).strip(), raw
            counts["refused"] += 1
        except Exception as e:
            e.add_note(f"{name}, damage {k}: {raw[:3000]!r}")
            raise
    return counts


def main(n: str = "20000", *names: str) -> None:
    import tempfile
    import warnings
    from pathlib import Path

    from test_fuzz import READERS

    warnings.simplefilter("ignore")
    for name in names or READERS:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            raws, read = READERS[name](Path(folder))
            counts = survey(name, raws, read, int(n))
        print(f"{name:24} {counts} {time.perf_counter() - begun:6.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
