"""No test may leave its traces in the notebooks, not even for a moment that a kill makes long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "nbs"


def times() -> dict[str, int]:
    "When each file and folder was changed last: what came and went has changed its folder"
    found = {}
    for folder, _, names in os.walk(NOTEBOOKS):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            if ".ipynb_checkpoints" not in path.parts:
                found[str(path)] = path.stat().st_mtime_ns
    return found


@pytest.fixture(scope="module", autouse=True)
def notebooks_stay_as_they_are():
    before = times()
    yield
    after = times()
    changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    assert not changed, f"this module's tests wrote into nbs/: {sorted(changed)}"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    "A whole run at its smallest, made once; who wants to change it takes a copy"
    path = tmp_path_factory.mktemp("runs") / "smoke"
    command = [Path(sys.executable).with_name("arabic-dialog"), "reproduce", "--profile", "smoke"]
    done = subprocess.run([*command, "--run", path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("report.html")
    return path
