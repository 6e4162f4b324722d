"""No test may leave its traces in the notebooks, not even for a moment that a kill makes long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

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
def finished_run(tmp_path_factory, worker_id):
    "A whole run at its smallest, made once for all workers; who wants to change it takes a copy"
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent  # that of all workers
    path, done = folder / "runs/smoke", folder / "runs/done"
    with FileLock(folder / "runs.lock"):
        if not done.exists():
            _make_run(path)
            done.touch()
    return path


def _make_run(path: Path):
    command = [Path(sys.executable).with_name("arabic-dialog"), "reproduce", "--profile", "smoke"]
    done = subprocess.run([*command, "--run", path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("report.html")
