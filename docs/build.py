"""Build the site from the notebooks: nbdev's own processors, a small adapter, then Sphinx. Needs neither Quarto nor a network.

python docs/build.py    writes _docs/; a warning is an error, and so is a link that leads nowhere or an address from which a browser would load something
"""

import json, re, shutil, subprocess, sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE, OUT = ROOT / "_proc_sphinx", ROOT / "_docs"
FOLDERS = {
    "core": "What everything stands on",
    "models": "Models of others, run safely and fast",
    "generation": "Topics × countries → conversations",
    "finetuning": "Conversations → checkpoints",
    "metrics": "Checkpoints → numbers",
    "rating": "People → ratings",
    "analysis": "Numbers and ratings → findings",
    "reporting": "Findings → tables, figures, one page",
    "commands": "What a person types",
}
GUIDE = (
    "start",
    "explore",
    "run_the_paper",
    "rate",
    "extend",
    "assumptions",
    "claims",
)  # in the order of the sidebar
TUTORIALS = ("explore", "compare", "rate", "another_language")
LANDING = ("fig_coverage", "fig_training", "fig_raven")  # figures of the landing page


def as_markdown(source):
    return dict(cell_type="markdown", metadata={}, source=source)


def adapt_cell(cell):
    """A cell in nbdev's Quarto dialect (front matter, `#|` options, `asis` output) as a plain one, or None"""
    source = "".join(cell["source"])
    if cell["cell_type"] == "raw":
        if not source.startswith("---"):
            return None
        front = yaml.safe_load(source.strip().strip("-")) or {}
        if "title" not in front:
            return None
        return as_markdown(
            f"# {front['title']}"
            + (f"\n\n> {front['description']}" if front.get("description") else "")
        )
    if cell["cell_type"] == "markdown":
        return None if source.startswith("<!-- WARNING") else cell
    if re.search(r"^#\| output: asis", source, re.M):  # nbdev's documentation of a definition
        md = "".join(
            "".join(o["data"]["text/markdown"])
            for o in cell.get("outputs", [])
            if "text/markdown" in o.get("data", {})
        )
        return as_markdown(
            re.sub(r"^---\n+", "", md).replace("\n### ", "\n## ").replace("### ", "## ", 1)
        )
    tags = [
        tag
        for option, tag in (("echo", "remove-input"), ("output", "remove-output"))
        if re.search(rf"^#\| {option}: false", source, re.M)
    ]
    cell["source"], cell["metadata"] = (
        re.sub(r"^#\|.*\n?", "", source, flags=re.M),
        {"tags": tags} if tags else {},
    )
    cell["outputs"] = [
        o
        for o in cell.get("outputs", [])
        if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
    ]  # lives in Jupyter only
    return cell if cell["source"].strip() or cell["outputs"] else None


def adapt(nb):
    """A processed notebook for myst-nb"""
    cells = [c for c in map(adapt_cell, nb["cells"]) if c]
    for i, c in enumerate(cells):
        c["id"] = f"c{i}"
    return {**nb, "cells": cells}


def toctree(caption, pages):
    """A hidden list of pages for the sidebar"""
    return (
        "```{toctree}\n:hidden:\n"
        + (f":caption: {caption}\n" if caption else "")
        + "\n"
        + "\n".join(pages)
        + "\n```\n\n"
        if pages
        else ""
    )


def summary(page):
    """(title, sentence) of a page of the site"""
    first = next(
        "".join(c["source"])
        for c in json.loads((SOURCE / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    )
    title, _, rest = first.partition("\n")
    return title.lstrip("# "), " ".join(
        l.lstrip("> ") for l in rest.strip().splitlines() if l.startswith(">")
    )


def listing(pages):
    return (
        "".join(
            f"- [{title}]({page}.ipynb): {text}\n"
            for page in pages
            for title, text in [summary(page)]
        )
        + "\n"
    )


def overviews(pages):
    """Pages that list others: the API by floor, the tables and figures, the changes; returns nothing"""
    api = (
        "# API\n\n> One page a module. A folder imports only from folders above it\n\n"
        "Each page is the notebook that the module is exported from: its definitions, with "
        "examples that are run as tests.\n\n"
    )
    for folder, arrow in FOLDERS.items():
        of = [p for p in pages if p.split("/")[0] == folder]
        api += f"## {folder}\n\n{arrow}.\n\n{listing(of)}{toctree('', of)}"
    (SOURCE / "api.md").write_text(api, encoding="utf-8")
    papers = [p for p in pages if p.startswith("paper/")]
    (SOURCE / "tables.md").write_text(
        "# Tables and figures\n\n> One notebook for each, its claim as the title\n\n"
        + listing(papers)
        + toctree("", papers),
        encoding="utf-8",
    )
    shutil.copyfile(ROOT / "CHANGELOG.md", SOURCE / "changes.md")


def quoted(text):
    """Text of a run as Markdown in which nothing means anything"""
    from arabic_dialog.reporting.cards import quote

    return quote(text)


def figure(run, name, prefix=""):
    """A figure of a run and its caption"""
    r = run["results"][name]
    return f"![{quoted(summary(f'paper/{name}')[0])}]({prefix}_static/run/{name}.svg)\n\n{quoted(r['caption'])}\n\n*{quoted(r['source'])}*\n\n"


def said(run):
    """Which run it is, as a sentence"""
    a = run["about"]
    return f"the run of profile `{quoted(a['profile'])}` that was started {a['started'][:10]} with version {quoted(a['code_version'])}"


def add_results(run):
    """Put what a run gave under each paper notebook, on the landing page, and beside the claims"""
    for name, r in run["results"].items():
        path = SOURCE / "paper" / f"{name}.ipynb"
        if not path.is_file():
            continue
        nb = json.loads(path.read_text(encoding="utf-8"))
        text = f"## What it gave\n\nIn {said(run)}.\n\n"
        text += (
            figure(run, name, "../")
            if r["figure"]
            else f"{quoted(r['caption'])}\n\n*{quoted(r['source'])}*\n\n"
        )
        if r["rows"]:
            text += "\n".join(
                "| " + " | ".join(map(quoted, row)) + " |"
                for row in [r["headings"], ["---"] * len(r["headings"]), *r["rows"]]
                if row
            ).replace("| \\-\\-\\- ", "| --- ")
            text += (
                f"\n\n{r['more']:,} more rows are in the run's CSV file.\n" if r["more"] else "\n"
            )
        nb["cells"][1:1] = [
            as_markdown(text) | {"id": "gave"},
            as_markdown("## The notebook") | {"id": "notebook"},
        ]
        path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")
    path = SOURCE / "guide" / "claims.ipynb"
    nb = json.loads(path.read_text(encoding="utf-8"))
    rows = "\n".join(
        f"| {c['id']} | {quoted(c['shown'])}{' (simulated raters)' if c['simulated'] else ''} | {quoted(c['between'])} | {c['verdict']} | [{c['measured_by']}](../paper/{c['measured_by']}.ipynb) |"
        for c in run["claims"]
    )
    nb["cells"].append(
        as_markdown(
            f"## What a run gave\n\nIn {said(run)}.\n\n| | value | interval (95%) | verdict | made in |\n| --- | --- | --- | --- | --- |\n{rows}\n"
        )
        | {"id": "gave"}
    )
    path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")


def landing(run, pages):
    """Finish the landing page: figures of a run, and the sidebar"""
    path = SOURCE / "index.ipynb"
    nb = json.loads(
        re.sub(
            r"\]\(nbs/", "](", path.read_text(encoding="utf-8").replace("docs/_static/", "_static/")
        )
    )
    figures = [n for n in LANDING if n in run["results"] and run["results"][n]["figure"]]
    text = (
        f"## Figures of a run\n\nFrom {said(run)}; more under [Tables and figures](tables.md).\n\n"
        + "".join(f"### {quoted(summary(f'paper/{n}')[0])}\n\n{figure(run, n)}" for n in figures)
    )
    text += (
        toctree("Guide", [f"guide/{p}" for p in GUIDE])
        + toctree("Tutorials", [f"tutorials/{p}" for p in TUTORIALS])
        + toctree("Reference", ["tables", "api", "changes"])
    )
    nb["cells"].append(as_markdown(text) | {"id": "contents"})
    path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")


def broken_links(out):
    """What is wrong with the addresses in a folder of pages: links that lead nowhere, and things that a browser would load from elsewhere"""
    pages = {
        p: p.read_text(encoding="utf-8")
        for p in sorted(out.rglob("*.html"))
        if p.relative_to(out).parts[0] != "_static"
    }  # those are templates
    ids = {p.resolve(): set(re.findall(r'\bid="([^"]+)"', text)) for p, text in pages.items()}
    found = []
    for page, text in pages.items():
        here = page.relative_to(out).as_posix()
        found += [
            f"{here} loads {a}"
            for a in re.findall(
                r'<(?:script|img|iframe|source)\b[^>]*?\bsrc="((?:https?:)?//[^"]+)"', text
            )
        ]
        found += [
            f"{here} loads {a}"
            for tag in re.findall(r"<link\b[^>]*>", text)
            if 'rel="canonical"' not in tag
            for a in re.findall(r'href="((?:https?:)?//[^"]+)"', tag)
        ]
        for address in set(re.findall(r'(?:href|src)="([^"]*)"', text)):
            address = unescape(address)
            if re.match(r"[a-z][a-z0-9+.-]*:|//", address, re.I) or not address:
                continue
            name, _, anchor = address.partition("#")
            target = (
                (page.parent / unquote(name.split("?")[0])).resolve() if name else page.resolve()
            )
            if not target.exists():
                found.append(f"{here}: {address} leads nowhere")
            elif anchor and target in ids and unquote(anchor) not in ids[target]:
                found.append(f"{here}: {address} names no part of that page")
    return sorted(set(found))


def main():
    from nbdev.serve import proc_nbs

    sys.path.insert(0, str(ROOT / "docs"))
    from collect import collect

    for folder in (SOURCE, OUT):
        shutil.rmtree(folder, ignore_errors=True)
    processed, pages = proc_nbs(n_workers=2, force=True), []
    for path in sorted(processed.rglob("*.ipynb")):
        target = SOURCE / path.relative_to(processed)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            json.dumps(adapt(json.loads(path.read_text(encoding="utf-8"))), ensure_ascii=False),
            encoding="utf-8",
        )
        pages.append(target.relative_to(SOURCE).with_suffix("").as_posix())
    shutil.copy(ROOT / "docs" / "conf.py", SOURCE)
    shutil.copytree(ROOT / "docs" / "_static", SOURCE / "_static")
    own = (
        ROOT / "runs" / "offline"
    )  # this machine's own run; where there is none, the one that was committed
    if (own / "report.json").is_file():
        collect(own, SOURCE / "_static" / "run")
    run = json.loads((SOURCE / "_static" / "run" / "run.json").read_text(encoding="utf-8"))
    overviews(pages)
    add_results(run)
    landing(run, pages)
    if code := subprocess.call(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            "-b",
            "html",
            str(SOURCE),
            str(OUT),
        ]
    ):
        sys.exit(code)
    if found := broken_links(OUT):
        sys.exit("\n".join(found))
    print(f"{len(pages)} pages in {OUT.relative_to(ROOT)}/, of {said(run)}")


if __name__ == "__main__":
    main()
