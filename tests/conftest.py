"""No test may leave its traces in the notebooks, not even for a moment that a kill makes long."""

import os
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "nbs"


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
