"""Collect what the site shows of a run: figures, captions, the first rows of tables, and the ledger of claims.

python docs/collect.py runs/offline    writes docs/_static/run/, which is committed, for machines that have no run
"""

import json, shutil, sys
from pathlib import Path

from arabic_dialog.reporting.cards import about_run
from arabic_dialog.core.files import load_csv
from arabic_dialog.reporting.notebooks import notebook_names
from arabic_dialog.reporting.report import claim_view, table_view
from arabic_dialog.reporting.results import claims_ledger, open_run

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "_static" / "run"


def shown(folder: Path, name: str, rows: int = 12) -> dict:
    """What a page shows of one result"""
    result, of = (
        json.loads((folder / "result.json").read_text(encoding="utf-8")),
        load_csv(folder / f"{name}.csv"),
    )
    view = table_view(list(of[0]) if of else [], of, rows)
    return {k: result[k] for k in ("caption", "source", "simulated", "figure")} | {
        "headings": [h["text"] for h in view["headings"]],
        "rows": [[c["text"] for c in r] for r in view["rows"]],
        "more": view["more"],
    }


def collect(run: str | Path, out: Path) -> Path:
    """Write run.json, and a figure for each result that has one, into `out`"""
    results = open_run(run)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    made = {
        n: shown(results.path / "paper" / n, n)
        for n in notebook_names()
        if (results.path / "paper" / n / "result.json").is_file()
    }
    for n in made:
        if made[n]["figure"]:
            shutil.copyfile(results.path / "paper" / n / f"{n}.svg", out / f"{n}.svg")
    about = about_run(results.path)
    simulated = {n for n, r in made.items() if r["simulated"]}
    claims = [
        {
            k: v
            for k, v in claim_view(c, simulated).items()
            if k in ("id", "shown", "between", "verdict", "simulated", "measured_by")
        }
        for c in claims_ledger(results)
    ]
    text = json.dumps(
        {
            "about": {k: about[k] for k in ("profile", "data_hash", "code_version", "started")},
            "results": made,
            "claims": claims,
        },
        ensure_ascii=False,
        indent=1,
    )
    (out / "run.json").write_text(text + "\n", encoding="utf-8")
    return out


if __name__ == "__main__":
    print(collect(sys.argv[1] if len(sys.argv) > 1 else "runs/offline", KEPT))
