"""Collect what the site shows of a run: figures, captions, first rows of tables, and the claims.

python docs/collect.py runs/offline    writes docs/_static/run/, which is committed, for machines
                                       that have no run
"""

import json
import shutil
import sys
from pathlib import Path

from arabic_dialog.core.files import load_csv
from arabic_dialog.reporting.notebooks import notebook_names
from arabic_dialog.reporting.pages import table_view
from arabic_dialog.reporting.report import claim_view
from arabic_dialog.reporting.claims import claims_ledger
from arabic_dialog.reporting.results import about_run, open_run

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "_static" / "run"
N_ROWS = 12


def collect_result(folder: Path) -> dict:
    "What a page shows of one result: caption, source, and the first rows of its table"
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    rows = load_csv(folder / f"{folder.name}.csv")
    view = table_view(list(rows[0]) if rows else [], rows, N_ROWS)
    shown = {k: result[k] for k in ("caption", "source", "simulated", "figure")}
    shown["headings"] = [heading.text for heading in view.headings]
    shown["rows"] = [[cell.text for cell in row] for row in view.rows]
    shown["more"] = view.more
    return shown


def collect(run: str | Path, out: Path) -> Path:
    "Write run.json, and a figure for each result that has one, into `out`"
    results = open_run(run)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    folders = [results.path / "paper" / name for name in notebook_names()]
    shown = {f.name: collect_result(f) for f in folders if (f / "result.json").is_file()}
    for name, result in shown.items():
        if result["figure"]:
            figure = f"{name}.svg"
            shutil.copyfile(results.path / "paper" / name / figure, out / figure)
    about = about_run(results.path)
    simulated = {name for name, result in shown.items() if result["simulated"]}
    kept = ("id", "shown", "between", "verdict", "why", "simulated", "measured_by")
    views = [claim_view(claim, simulated) for claim in claims_ledger(results)]
    site = {
        "about": {k: about[k] for k in ("profile", "data_hash", "code_version", "started")},
        "results": shown,
        "claims": [{k: getattr(view, k) for k in kept} for view in views],
    }
    text = json.dumps(site, ensure_ascii=False, indent=1) + "\n"
    (out / "run.json").write_text(text, encoding="utf-8")
    return out


if __name__ == "__main__":
    print(collect(sys.argv[1] if len(sys.argv) > 1 else "runs/offline", KEPT))
