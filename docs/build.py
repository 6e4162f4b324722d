"""Build the site from the notebooks with Sphinx; needs neither Quarto nor a network, runs no cell.

python docs/build.py    writes _docs/; a warning is an error, and so is a link that leads nowhere
                        or an address from which a browser would load something
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tests")]

from collect import collect  # noqa: E402
from definitions import Definition, as_markdown, as_page  # noqa: E402
from house import FOLDERS, exported, modules, tree  # noqa: E402
from links import broken_links  # noqa: E402
from reference import commands_page, load_settings, settings_page  # noqa: E402

NBS, SOURCE, OUT = ROOT / "nbs", ROOT / "_proc_sphinx", ROOT / "_docs"
# The sidebar: what a reader wants to do, and the pages that tell how
TASKS = {
    "Get started": ("guide/start", "guide/explore", "tutorials/explore"),
    "Your own data and models": (
        "tutorials/another_language",
        "guide/extend",
        "tutorials/compare",
    ),
    "Run the paper": ("guide/run_the_paper", "guide/claims", "guide/assumptions", "tables"),
    "Rate": ("guide/rate", "tutorials/rate"),
}
REFERENCE = ("commands_reference", "settings_reference", "changes")
LANDING = ("fig_coverage", "fig_training", "fig_raven")  # figures of the landing page


def load_notebook(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def save_notebook(path: Path, notebook: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def write_pages() -> list[str]:
    "Write every notebook as a page, and beside it the notebook itself; returns the pages' names"
    names = []
    homes = definitions_by_page()
    for path in sorted(NBS.rglob("*.ipynb")):
        name = path.relative_to(NBS).with_suffix("").as_posix()
        if ".ipynb_checkpoints" in name:
            continue
        kept = SOURCE / "_static" / "notebooks" / f"{name}.ipynb"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        up = "../" * name.count("/")
        pages = {definition: f"{up}{home}.ipynb" for definition, home in homes.items()}
        page = as_page(load_notebook(path), f"{up}_static/notebooks/{name}.ipynb", pages)
        save_notebook(SOURCE / f"{name}.ipynb", page)
        names.append(name)
    return names


def definitions_by_page() -> dict[str, str]:
    "The page on which each public function and class of the package is described"
    return {
        n.name: m.notebook.relative_to(NBS).with_suffix("").as_posix()
        for m in modules().values()
        for n in tree(m.notebook).body
        if isinstance(n, Definition) and not n.name.startswith("_")
    }


def toctree(caption: str, pages: list[str] | tuple[str, ...]) -> str:
    "A hidden list of pages for the sidebar"
    if not pages:
        return ""
    options = ":hidden:\n" + (f":caption: {caption}\n" if caption else "")
    return "```{toctree}\n" + options + "\n" + "\n".join(pages) + "\n```\n\n"


def summary(name: str) -> tuple[str, str]:
    "(title, sentence) of a page of the site"
    cells = load_notebook(SOURCE / f"{name}.ipynb")["cells"]
    first = next("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    title, _, rest = first.partition("\n")
    sentence = [line.lstrip("> ") for line in rest.strip().splitlines() if line.startswith(">")]
    return title.lstrip("# "), " ".join(sentence)


def listing(names: list[str]) -> str:
    items = [(name, *summary(name)) for name in names]
    return "".join(f"- [{title}]({name}.ipynb): {text}\n" for name, title, text in items) + "\n"


def write_folders(names: list[str]) -> None:
    "Put the modules of each folder below its own page in the sidebar"
    for folder in FOLDERS:
        opening = f"{folder}/00_index"
        modules = [n.split("/")[1] for n in names if n.startswith(folder + "/") and n != opening]
        page = load_notebook(SOURCE / f"{opening}.ipynb")
        page["cells"].append(as_markdown(toctree("", modules), "contents"))
        save_notebook(SOURCE / f"{opening}.ipynb", page)


def write_overviews(names: list[str]) -> None:
    "Pages that list others: the tables and figures, the commands, the settings, the changes"
    papers = [n for n in names if n.startswith("paper/")]
    head = "# Tables and figures\n\n> One notebook for each, its claim as the title\n\n"
    overview = head + listing(papers) + toctree("", papers)
    code = exported(NBS / "core" / "05_settings.ipynb")
    texts = {
        "tables": overview,
        "commands_reference": commands_page(),
        "settings_reference": settings_page(load_settings(code), ROOT / "settings.ini"),
    }
    for name, text in texts.items():
        (SOURCE / f"{name}.md").write_text(text, encoding="utf-8")
    shutil.copyfile(ROOT / "CHANGELOG.md", SOURCE / "changes.md")


def quoted(text: str) -> str:
    "Text of a run as Markdown in which nothing means anything"
    from arabic_dialog.reporting.cards import quote

    return quote(text)


def caption(result: dict) -> str:
    return f"{quoted(result['caption'])}\n\n*{quoted(result['source'])}*\n\n"


def figure(run: dict, name: str, up: str = "") -> str:
    "A figure of a run and its caption"
    title = quoted(summary(f"paper/{name}")[0])
    return f"![{title}]({up}_static/run/{name}.svg)\n\n" + caption(run["results"][name])


def which_run(run: dict) -> str:
    "Which run it is, as a part of a sentence"
    about = run["about"]
    return (
        f"the run of profile `{quoted(about['profile'])}` that was started "
        f"{about['started'][:10]} with version {quoted(about['code_version'])}"
    )


def result_table(result: dict) -> str:
    "The first rows of a result"
    if not result["rows"]:
        return ""
    lines = ["| " + " | ".join(map(quoted, row)) + " |" for row in result["rows"] if row]
    head = "| " + " | ".join(map(quoted, result["headings"])) + " |"
    lines = [head, "| --- " * len(result["headings"]) + "|", *lines]
    more = f"{result['more']:,} more rows are in the run's CSV file.\n" if result["more"] else ""
    return "\n".join(lines) + f"\n\n{more}"


def add_results(run: dict) -> None:
    "Put what a run gave under each paper notebook, and beside the claims"
    for name, result in run["results"].items():
        path = SOURCE / "paper" / f"{name}.ipynb"
        if not path.is_file():
            continue
        page = load_notebook(path)
        shown = figure(run, name, "../") if result["figure"] else caption(result)
        text = f"## What it gave\n\nIn {which_run(run)}.\n\n{shown}{result_table(result)}"
        page["cells"][1:1] = [as_markdown(text, "gave"), as_markdown("## The notebook", "notebook")]
        save_notebook(path, page)
    add_claims(run)


def add_claims(run: dict) -> None:
    "Put what a run gave for each of the paper's claims at the end of their page"
    path = SOURCE / "guide" / "claims.ipynb"
    page = load_notebook(path)
    rows = "\n".join(map(claim_row, run["claims"]))
    head = "| | value | interval (95%) | verdict | made in |\n| --- | --- | --- | --- | --- |"
    text = f"## What a run gave\n\nIn {which_run(run)}.\n\n{head}\n{rows}\n"
    page["cells"].append(as_markdown(text, "gave"))
    save_notebook(path, page)


def claim_row(claim: dict) -> str:
    value = quoted(claim["shown"]) + " (simulated raters)" * claim["simulated"]
    made = f"[{claim['measured_by']}](../paper/{claim['measured_by']}.ipynb)"
    cells = (claim["id"], value, quoted(claim["between"]), claim["verdict"], made)
    return "| " + " | ".join(cells) + " |"


def write_landing(run: dict) -> None:
    "Finish the landing page: figures of a run, and the sidebar"
    path = SOURCE / "index.ipynb"
    text = path.read_text(encoding="utf-8").replace("docs/_static/", "_static/")
    page = json.loads(text.replace("](nbs/", "]("))
    results = run["results"]
    figures = [n for n in LANDING if n in results and results[n]["figure"]]
    parts = [f"### {quoted(summary(f'paper/{n}')[0])}\n\n{figure(run, n)}" for n in figures]
    more = "more under [Tables and figures](tables.md)"
    head = f"## Figures of a run\n\nFrom {which_run(run)}; {more}.\n\n"
    trees = [toctree(task, pages) for task, pages in TASKS.items()]
    trees.append(toctree("Reference", REFERENCE))
    trees.append(toctree("Modules", [f"{folder}/00_index" for folder in FOLDERS]))
    page["cells"].append(as_markdown(head + "".join(parts + trees), "contents"))
    save_notebook(path, page)


def load_run() -> dict:
    "What the site shows of a run: of this machine's own, or of the one that was committed"
    own = ROOT / "runs" / "offline"
    if (own / "report.json").is_file():
        collect(own, SOURCE / "_static" / "run")
    return json.loads((SOURCE / "_static" / "run" / "run.json").read_text(encoding="utf-8"))


def main() -> None:
    for folder in (SOURCE, OUT):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "_static", SOURCE / "_static")
    shutil.copy(ROOT / "docs" / "conf.py", SOURCE)
    names = write_pages()
    run = load_run()
    write_folders(names)
    write_overviews(names)
    add_results(run)
    write_landing(run)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2", "-b", "html"]
    if code := subprocess.call([*sphinx, str(SOURCE), str(OUT)]):
        sys.exit(code)
    if found := broken_links(OUT):
        sys.exit("\n".join(found))
    print(f"{len(names)} pages in {OUT.relative_to(ROOT)}/, of {which_run(run)}")


if __name__ == "__main__":
    main()
