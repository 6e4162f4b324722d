"""Run every notebook, and compare what its cells give with the outputs it stores.

python tests/notebooks.py [PATH …]    folders or notebooks; all of nbs/ where none is named

What differs by nature is not compared: pictures, warnings, numbers beyond two digits, and the
cells that say so (`#| varies`: times, temporary paths, what a machine has).
"""

import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pictures, and what lives in Jupyter only, are not compared
NOT_TEXT = {"image/png", "image/svg+xml", "application/vnd.jupyter.widget-view+json"}
SKIPPED = ("slow", "gpu")  # cells with these marks are run by `nbdev-test --flags`
TIMEOUT = 300  # seconds for a cell
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object in memory; nbdev-clean takes it away
# Numbers differ in their last digits between processors
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?%?")
RELATIVE, ABSOLUTE = 0.05, 0.02


@dataclass(frozen=True)
class Result:
    "What became of one notebook"

    path: Path
    passed: bool
    differences: list[str]
    seconds: float


def texts(cell: dict) -> list[str]:
    "What a cell printed and returned, as text"
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = output.get("text") if output.get("name") != "stderr" else None
        text = text or data.get("text/markdown") or data.get("text/plain")
        if text and not NOT_TEXT & data.keys():
            found.append(ADDRESS.sub("", "".join(text)).strip())
    return found


def value(number: str) -> float:
    return float(number.rstrip("%").replace(",", ""))


def same(stored: str, fresh: str) -> bool:
    "Are two texts alike, but for the last digits of their numbers?"
    if NUMBER.sub("#", stored) != NUMBER.sub("#", fresh):
        return False
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(fresh), strict=True)
    return all(near(a, b) for a, b in pairs)


def near(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        x, y = value(a), value(b)
    except ValueError:  # a date, a version
        return False
    return abs(x - y) <= max(ABSOLUTE, RELATIVE * max(abs(x), abs(y)))


def differences(stored: dict, fresh: dict) -> Iterator[str]:
    "The cells of a notebook that gave something else than is stored"
    pairs = zip(stored["cells"], fresh["cells"], strict=True)
    for n, (old, new) in enumerate(pairs):
        source = "".join(old["source"])
        if old["cell_type"] != "code" or re.search(r"^#\|\s*(varies|slow|gpu)", source, re.M):
            continue
        before, after = texts(old), texts(new)
        alike = len(before) == len(after) and all(map(same, before, after))
        if not alike:
            yield f"cell {n} stores {shorten(before)}, and gives {shorten(after)}"


def shorten(found: list[str]) -> str:
    text = " · ".join(found)
    return repr(text[:200]) if text else "nothing"


def run(path: Path) -> Result:
    "Run one notebook as nbdev-test does; nothing is written"
    import nbdev.test
    from fastcore.nbio import read_nb

    begun, finished = time.perf_counter(), []
    nbdev.test.write_nb = lambda notebook, target: finished.append(notebook)
    passed, _ = nbdev.test.test_nb(
        path, skip_flags=SKIPPED, basepath=ROOT, save=True, cell_timeout=TIMEOUT
    )
    found = list(differences(read_nb(path), finished[0])) if finished else []
    return Result(path, passed, found, time.perf_counter() - begun)


def notebooks(named: list[str]) -> list[Path]:
    "The notebooks that are named, or all; the longest first, as far as their size tells"
    places = [Path(n).resolve() for n in named] or [ROOT / "nbs"]
    found = [p for place in places for p in (place.rglob("*.ipynb") if place.is_dir() else [place])]
    kept = [p for p in found if ".ipynb_checkpoints" not in p.parts]
    return sorted(kept, key=lambda p: -p.stat().st_size)


def main(*named: str) -> int:
    failed = []
    server = get_context("forkserver")
    server.set_forkserver_preload(
        ["nbdev.test", "torch"]
    )  # each process is a copy of one with these
    with ProcessPoolExecutor(2, server, max_tasks_per_child=1) as pool:
        for result in pool.map(run, notebooks(list(named))):
            is_ours = result.path.is_relative_to(ROOT)
            name = result.path.relative_to(ROOT) if is_ours else result.path
            for difference in result.differences:
                print(f"{name}: {difference}")
            if not result.passed:
                print(f"{name} failed, see above")
            if result.differences or not result.passed:
                failed.append(name)
    if failed:
        print(f"{len(failed)} notebooks failed: {', '.join(map(str, failed))}")
        print("Where an output has changed for good: nbdev-test NOTEBOOK --save")
    else:
        print("Every notebook runs and gives what it stores")
    return bool(failed)


if __name__ == "__main__":
    # by its name: the cells of a notebook take the place of __main__
    from notebooks import main as start

    sys.exit(start(*sys.argv[1:]))
