"The commands of the README in either order: tutorials and guide with a finished run and without."

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CARRIED = ("settings.ini", "pyproject.toml", "data", "nbs/tutorials", "nbs/guide")


@pytest.fixture
def project(tmp_path):
    "A project of its own, as a clone has it: what `find_root` finds from inside its notebooks"
    for name in CARRIED:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return tmp_path


@pytest.mark.parametrize("has_run", [True, False], ids=["with a run", "without"])
def test_every_tutorial_and_guide_runs_and_gives_what_it_stores(project, request, has_run):
    if has_run:
        shutil.copytree(request.getfixturevalue("finished_run"), project / "runs/offline")
    before = {p: p.read_bytes() for p in project.rglob("*.ipynb")}
    folders = [project / "nbs/tutorials", project / "nbs/guide"]
    command = [sys.executable, ROOT / "tests/notebooks.py", *folders]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {p: p.read_bytes() for p in project.rglob("*.ipynb")}
