"The Makefile sets up an environment once, and again where its lists have changed"

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LISTS = ("pyproject.toml", "constraints.txt")


@pytest.fixture
def clone(tmp_path):
    for name in ("Makefile", *LISTS):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    made_of = "".join((tmp_path / name).read_text(encoding="utf-8") for name in LISTS)
    ready = tmp_path / ".venv" / ".ready"
    ready.write_text(made_of, encoding="utf-8")
    os.utime(ready, (0, 0))  # older than both lists, as after nbdev-export
    return tmp_path


def set_up(clone):
    """Make `setup` with a Python that fails, so that whoever calls it is found out

    These tests run below `make test`: what that make tells the makes that it starts (its level, its
    flags) is left out, or it would be printed and obeyed here.
    """
    told = ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")
    outside = {name: value for name, value in os.environ.items() if name not in told}
    return subprocess.run(
        ["make", "setup", "PYTHON=false"], cwd=clone, capture_output=True, text=True, env=outside
    )


def test_a_list_that_was_only_written_anew_sets_nothing_up(clone):
    done = set_up(clone)
    assert (done.returncode, done.stdout) == (0, "")
    assert (clone / ".venv" / ".ready").stat().st_mtime > 0


@pytest.mark.parametrize("name", LISTS)
def test_a_changed_list_sets_up_again_until_that_succeeds(clone, name):
    with (clone / name).open("a", encoding="utf-8") as f:
        f.write("# another\n")
    assert set_up(clone).returncode != 0
    assert set_up(clone).returncode != 0


def test_a_new_clone_is_set_up(clone):
    shutil.rmtree(clone / ".venv")
    assert set_up(clone).returncode != 0
