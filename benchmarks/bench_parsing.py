"""Parsing with the plainest that could be done with the same completions (reading their JSON and
splitting their lines), and with the code of another checkout, where one is named.

python benchmarks/bench_parsing.py [CHECKOUT]
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fastest(function, value, n=300):
    "Seconds of the fastest of `n` calls: what others do on the machine does not count"
    best = float("inf")
    for _ in range(n):
        start = time.perf_counter()
        function(value)
        best = min(best, time.perf_counter() - start)
    return best


def measure():
    "(seconds a completion to parse, seconds a completion for the plainest)"
    from arabic_dialog.generation.parsing import parse_conversation

    path = ROOT / "data/sample/completions.jsonl"
    rows = path.read_text(encoding="utf-8").splitlines()
    parsed = sum(fastest(parse_conversation, json.loads(row)["text"]) for row in rows)
    plain = sum(fastest(lambda row: json.loads(row)["text"].splitlines(), row) for row in rows)
    return parsed / len(rows), plain / len(rows)


def measure_in(checkout):
    "The same, of the code of a checkout, in a process of its own"
    code = f"import sys; sys.path[:0] = [{str(checkout)!r}, {str(ROOT / 'benchmarks')!r}]; "
    code += "import bench_parsing; print(*bench_parsing.measure())"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return tuple(map(float, answer.stdout.split()))


def main(other=None):
    parsed, plain = measure_in(ROOT)
    print(f"{parsed * 1e6:.0f} µs a completion, {parsed / plain:.1f} × the plainest")
    if other:
        before, _ = measure_in(Path(other).resolve())
        print(f"{parsed / before:.2f} × as long as the code of {other}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
