"""A run from nothing, the same run from the cache, and the command line's first answer.

python benchmarks/bench_reproduce.py [PROFILE]
    smoke by default (about a minute and a half); offline takes about ten minutes
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("arabic-dialog")


def seconds(*command):
    start = time.perf_counter()
    subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main(profile):
    with tempfile.TemporaryDirectory() as d:
        run = ("reproduce", "--profile", profile, "--run", d)
        first, second = seconds(COMMAND, *run), seconds(COMMAND, *run)
        stages = {
            p.stem: json.loads(p.read_text())
            for p in sorted(Path(d, "stages").glob("*.json"), key=lambda p: p.stat().st_mtime)
        }
        for name, s in stages.items():
            print(f"  {name:32} {s['seconds']:8.1f} s")
        paper = {
            p.parent.name: json.loads(p.read_text())["seconds"]
            for p in sorted(Path(d, "paper").glob("*/_made.json"))
        }
        for name, s in paper.items():
            print(f"  paper/{name:26} {s:8.1f} s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"{profile}: from nothing {first:.1f} s, from the cache {second:.1f} s, ratio "
        f"{first / second:.0f}; largest process {peak:.2f} GiB"
    )
    bare = min(seconds(sys.executable, "-c", "pass") for _ in range(5))
    help_ = min(seconds(COMMAND, "--help") for _ in range(5))
    torch = min(seconds(sys.executable, "-c", "import torch") for _ in range(2))
    print(
        f"--help: {help_:.2f} s, {help_ / bare:.1f} × an empty Python, {help_ / torch:.2f} × "
        "importing torch"
    )


if __name__ == "__main__":
    main(*sys.argv[1:] or ["smoke"])
