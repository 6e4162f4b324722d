"""Build the site from the notebooks: nbdev's own processors, a small adapter, then Sphinx. Needs neither Quarto nor a network.

python docs/build.py    writes _docs/; a warning is an error
"""
import json, re, shutil, subprocess, sys
from pathlib import Path

import yaml
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parents[1]
SOURCE, OUT = ROOT/"_proc_sphinx", ROOT/"_docs"
FLOORS = {"0": "Text", "1": "Parts", "2": "Engines and gates", "3": "Pipelines", "4": "Measures", "5": "Studies", "6": "Views", "7": "The paper", "8": "A run",
          "9": "Commands"}


def as_markdown(source): return dict(cell_type="markdown", metadata={}, source=source)


def adapt_cell(cell):
    """A cell in nbdev's Quarto dialect (front matter, `#|` options, `asis` output) as a plain one, or None"""
    source = "".join(cell["source"])
    if cell["cell_type"] == "raw":
        if not source.startswith("---"): return None
        front = yaml.safe_load(source.strip().strip("-")) or {}
        if "title" not in front: return None
        return as_markdown(f"# {front['title']}" + (f"\n\n> {front['description']}" if front.get("description") else ""))
    if cell["cell_type"] == "markdown": return None if source.startswith("<!-- WARNING") else cell
    if re.search(r"^#\| output: asis", source, re.M):  # nbdev's documentation of a definition
        md = "".join("".join(o["data"]["text/markdown"]) for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {}))
        return as_markdown(re.sub(r"^---\n+", "", md).replace("\n### ", "\n## ").replace("### ", "## ", 1))
    tags = [tag for option, tag in (("echo", "remove-input"), ("output", "remove-output")) if re.search(rf"^#\| {option}: false", source, re.M)]
    cell["source"], cell["metadata"] = re.sub(r"^#\|.*\n?", "", source, flags=re.M), {"tags": tags} if tags else {}
    cell.setdefault("outputs", [])
    return cell


def adapt(nb):
    """A processed notebook for myst-nb"""
    cells = [c for c in map(adapt_cell, nb["cells"]) if c]
    for i, c in enumerate(cells): c["id"] = f"c{i}"
    return {**nb, "cells": cells}


def toctree(caption, pages): return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n\n" if pages else ""


def contents(pages):
    """The sidebar: modules by floor, then the paper's notebooks"""
    modules = [p for p in pages if re.match(r"\d\d_", p)]
    floors = sorted({m[0] for m in modules})
    return "".join(toctree(FLOORS[f], [m for m in modules if m[0] == f]) for f in floors) \
        + toctree("Tables and figures", [p for p in pages if p.startswith("paper/")]) + toctree("Tutorials", [p for p in pages if p.startswith("tutorials/")])


def main():
    for folder in (SOURCE, OUT): shutil.rmtree(folder, ignore_errors=True)
    processed, pages = proc_nbs(n_workers=2, force=True), []
    for path in sorted(processed.rglob("*.ipynb")):
        target = SOURCE/path.relative_to(processed); target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(adapt(json.loads(path.read_text(encoding="utf-8"))), ensure_ascii=False), encoding="utf-8")
        pages.append(target.relative_to(SOURCE).with_suffix("").as_posix())
    index = SOURCE/"index.ipynb"; nb = json.loads(index.read_text(encoding="utf-8").replace("docs/_static/", "_static/"))
    nb["cells"].append(as_markdown(contents(pages)) | {"id": "contents"}); index.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")
    shutil.copy(ROOT/"docs"/"conf.py", SOURCE); shutil.copytree(ROOT/"docs"/"_static", SOURCE/"_static")
    sys.exit(subprocess.call([sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(SOURCE), str(OUT)]))


if __name__ == "__main__": main()
