"Figures come out the same in another process, with fonts that do not depend on the machine"
import os
import subprocess
import sys

import pytest

DRAW = """
import hashlib, io, pandas as pd
from arabic_dialog.plots import plot_agreement
table = pd.DataFrame({"label": ["سلامة اللغة", "Fluency · الطلاقة"], "kappa": [.4, float("nan")], "kappa_low": [.3, float("nan")], "kappa_high": [.5, float("nan")]})
out = io.BytesIO(); plot_agreement(table, {"kappa": "Cohen’s κ"}).savefig(out, format="svg", metadata={"Date": None})
print(hashlib.sha256(out.getvalue()).hexdigest())
"""


def test_same_file_in_another_process():
    def draw(seed): return subprocess.run([sys.executable, "-c", DRAW], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
    a, b = draw("1"), draw("2")
    assert a.stdout == b.stdout and len(a.stdout) == 65
    assert "missing from" not in a.stderr, a.stderr  # a glyph that no font has


@pytest.mark.parametrize("module", ["plots", "cards", "report"])
def test_import_is_light(module):
    code = f"import sys, arabic_dialog.{module}; print([m for m in ('matplotlib', 'pandas', 'numpy', 'jinja2', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
