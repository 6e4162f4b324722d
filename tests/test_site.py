"""What the site's build promises, without building it: links are checked, nothing is loaded from elsewhere, the prose is in the notebooks."""

import json, re, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from build import GUIDE, LANDING, TUTORIALS, adapt_cell, broken_links

NOTEBOOKS = sorted(
    p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
)
TOLD = [p for p in NOTEBOOKS if p.parent.name in ("guide", "tutorials")]


def cells(path):
    return [
        {**c, "source": "".join(c["source"])}
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]


def test_a_link_that_leads_nowhere_and_a_script_from_elsewhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"></p><a href="b.html#y">1</a><a href="#x">2</a><a href="https://example.org">3</a><a href="b.html?q=1">4</a>',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<p id="y"></p><a href="a.html#%78">1</a>', encoding="utf-8")
    assert broken_links(tmp_path) == []
    (tmp_path / "b.html").write_text(
        '<a href="c.html">1</a><a href="a.html#z">2</a><script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//cdn.example/x.css">',
        encoding="utf-8",
    )
    assert broken_links(tmp_path) == [
        "a.html: b.html#y names no part of that page",
        "b.html loads //cdn.example/x.css",
        "b.html loads https://cdn.example/x.js",
        "b.html: a.html#z names no part of that page",
        "b.html: c.html leads nowhere",
    ]


@pytest.mark.parametrize(
    "path",
    [*NOTEBOOKS, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_a_relative_link_names_a_file(path):
    text = (
        path.read_text(encoding="utf-8")
        if path.suffix == ".md"
        else "\n".join(c["source"] for c in cells(path) if c["cell_type"] == "markdown")
    )
    folder = ROOT if path.stem == "index" else path.parent
    for target in re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    ):
        if not re.match(r"[a-z]+:|#", target):
            assert (folder / target.partition("#")[0]).exists(), target


def test_the_sidebar_lists_every_page_of_the_guide_and_every_tutorial():
    assert {p.stem for p in (ROOT / "nbs/guide").glob("*.ipynb")} == set(GUIDE) and {
        p.stem for p in (ROOT / "nbs/tutorials").glob("*.ipynb")
    } == set(TUTORIALS)
    assert not [p for p in (ROOT / "docs").rglob("*") if p.suffix in (".md", ".rst", ".txt")], (
        "docs/ holds no prose"
    )


@pytest.mark.parametrize("path", TOLD, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_page_of_the_guide_says_what_it_is_and_keeps_no_noise(path):
    first = cells(path)[0]["source"]
    assert re.match(r"# .+\n\n> \S", first)
    assert sum(c["cell_type"] == "markdown" for c in cells(path)) >= len(cells(path)) / 4
    for c in cells(path):
        assert "#| slow" not in c["source"] and "#| eval: false" not in c["source"], (
            "it is run as it stands"
        )
        for o in c.get("outputs", []):
            assert (
                o.get("name") != "stderr"
                and "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
                and "/tmp" not in json.dumps(o)
            )


def test_what_lives_in_jupyter_only_is_left_out_of_the_site():
    widget = {
        "cell_type": "code",
        "source": ["page"],
        "outputs": [
            {
                "output_type": "execute_result",
                "data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"},
            }
        ],
    }
    assert adapt_cell(widget)["outputs"] == []
    assert adapt_cell({"cell_type": "code", "source": ["#| echo: false\n", "1"], "outputs": []})[
        "metadata"
    ]["tags"] == ["remove-input"]


def test_the_run_that_the_site_shows_says_what_it_is():
    run = json.loads((ROOT / "docs/_static/run/run.json").read_text(encoding="utf-8"))
    assert set(LANDING) <= set(run["results"]) and len(run["claims"]) == 11
    for name, r in run["results"].items():
        for said in (f"Profile {run['about']['profile']}", run["about"]["data_hash"], "simulated"):
            assert said in r["source"], name
        assert r["figure"] == (ROOT / f"docs/_static/run/{name}.svg").is_file(), name
        assert r["simulated"] == ("simulated raters" in r["source"])
    if run["about"]["profile"] != "paper":
        assert {c["verdict"] for c in run["claims"]} <= {"not comparable at this scale", "not run"}
