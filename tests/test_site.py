"""What the site's build promises, without building it: links, pages of definitions, references."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from house import ROOT, cells, exported

sys.path.insert(0, str(ROOT / "docs"))
from build import LANDING, TASKS  # noqa: E402
from definitions import as_page, comments, describe, linked, without_asserts  # noqa: E402
from links import broken_links  # noqa: E402
from reference import PROFILES, commands_page, load_settings, settings_page  # noqa: E402

NOTEBOOKS = [
    p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts
]
TOLD = [p for p in NOTEBOOKS if p.parent.name in ("guide", "tutorials")]
PROSE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


def test_a_link_that_leads_nowhere_and_a_script_from_elsewhere_are_found(tmp_path):
    page = '<p id="x"></p><a href="b.html#y">1</a><a href="#x">2</a>'
    page += '<a href="https://example.org">3</a><a href="b.html?q=1">4</a>'
    page += '<pre>&lt;a href="quoted.html"&gt;</pre>'
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    other = tmp_path / "b.html"
    other.write_text('<p id="y"></p><a href="a.html#%78">1</a>', encoding="utf-8")
    assert broken_links(tmp_path) == []
    bad = '<a href="c.html">1</a><a href="a.html#z">2</a>'
    bad += '<script src="https://cdn.example/x.js"></script>'
    bad += '<link rel="stylesheet" href="//cdn.example/x.css">'
    other.write_text(bad, encoding="utf-8")
    assert broken_links(tmp_path) == [
        "a.html: b.html#y names no part of that page",
        "b.html loads //cdn.example/x.css",
        "b.html loads https://cdn.example/x.js",
        "b.html: a.html#z names no part of that page",
        "b.html: c.html leads nowhere",
    ]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PROSE], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_relative_link_names_a_file(path):
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
    else:
        text = "\n".join(c["source"] for c in cells(path) if c["cell_type"] == "markdown")
    folder = ROOT if path.stem == "index" else path.parent
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:|#", target):
            assert (folder / target.partition("#")[0]).exists(), target


def test_the_sidebar_lists_every_page_of_the_guide_and_every_tutorial():
    listed = {page for pages in TASKS.values() for page in pages} - {"tables"}
    assert listed == {f"{p.parent.name}/{p.stem}" for p in TOLD}
    prose = [p for p in (ROOT / "docs").rglob("*") if p.suffix in (".md", ".rst", ".txt")]
    assert not prose, "docs/ holds no prose"


@pytest.mark.parametrize("path", TOLD, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_page_of_the_guide_says_what_it_is_and_keeps_no_noise(path):
    assert re.match(r"# .+\n\n> \S", cells(path)[0]["source"])
    prose = sum(c["cell_type"] == "markdown" for c in cells(path))
    assert prose >= len(cells(path)) / 4
    for c in cells(path):
        assert not re.search(r"#\| (slow|eval: false)", c["source"]), "it is run as it stands"
        for output in c.get("outputs", []):
            assert output.get("name") != "stderr"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
            assert "/tmp" not in json.dumps(output)


CODE = """#| export
from typing import Any

def nearest(
    texts: "Sequence[str]",  # in which to look
    n: int = 3,  # how many
    *, encoder: Any = None,
) -> list[str]:
    "The texts nearest to each other"
    return _hidden(texts)

class Pair:
    "Two texts"
    left: str
    right: str = ""  # empty where there is none
    def _secret(self): pass
    @property
    def both(self) -> str:
        "Left and right"
        return self.left + self.right

def _hidden(texts): return texts
"""


def notebook_of(*sources, outputs=()):
    code = [{"cell_type": "code", "source": s, "outputs": list(outputs)} for s in sources]
    return {"cells": code}


def page_text(*sources, **how):
    page = as_page(notebook_of(*sources, **how), "x.ipynb", {"nearest": "p.ipynb"})
    return "\n\n".join(c["source"] for c in page["cells"])


def test_a_definition_shows_its_signature_as_written_one_parameter_a_line():
    text = page_text(CODE)
    assert "## nearest" in text and 'href="x.ipynb"' in text
    signature = """def nearest(
    texts: Sequence[str],  # in which to look
    n: int = 3,            # how many
    *,
    encoder: Any = None,
) -> list[str]"""
    assert signature in text
    assert (
        "class Pair(\n    left: str,\n    right: str = '',  # empty where there is none\n)" in text
    )
    assert "- `.both → str`" in text and "hidden" not in text and "secret" not in text


def test_a_short_signature_stands_on_one_line():
    short = ast.parse("def f(a: int, *rest, b=2, **more) -> str: pass").body[0]
    assert "def f(a: int, *rest, b=2, **more) -> str\n" in describe(short, comments(""))


def test_no_test_stands_in_the_way_of_a_reader():
    assert without_asserts("x = 1\nassert (\n    x\n    == 1\n)\nx") == "x = 1\nx"
    assert page_text("assert 1 == 1") == "" and page_text("#| hide\n1") == ""


def test_what_lives_in_jupyter_only_is_left_out_of_the_site():
    widget = {"data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"}}
    page = as_page(notebook_of("page", outputs=[widget]), "x.ipynb", {})
    assert page["cells"][0]["outputs"] == []
    hidden = as_page(notebook_of("#| echo: false\n1"), "x.ipynb", {})
    assert hidden["cells"][0]["metadata"]["tags"] == ["remove-input"]
    folded = as_page(notebook_of("import math"), "x.ipynb", {})
    assert folded["cells"][0]["metadata"]["tags"] == ["hide-input"]


def test_a_definition_named_in_prose_leads_to_its_page_but_not_in_code_or_in_a_link():
    pages = {"nearest": "p.ipynb"}
    assert linked("see `text.nearest`", pages) == "see [`text.nearest`](p.ipynb#nearest)"
    for text in ("```\n`nearest`\n```", "[`nearest`](q.ipynb)", "# `nearest`", "`other`"):
        assert linked(text, pages) == text


def test_the_reference_has_every_command_option_and_setting():
    from arabic_dialog.core.settings import Profile

    text = commands_page()
    for said in ("## arabic-dialog reproduce", "## arabic-dialog rate serve", "`--profile`"):
        assert said in text
    settings = load_settings(exported(ROOT / "nbs/core/05_settings.ipynb"))
    fields = Profile.model_fields.items()
    assert {s.key for s in settings} == {f.alias or k for k, f in fields} - {"name"}
    page = settings_page(settings, ROOT / "settings.ini")
    assert all(f"| `{s.key}` |" in page for s in settings) and all(p in page for p in PROFILES)


def test_the_run_that_the_site_shows_says_what_it_is():
    run = json.loads((ROOT / "docs/_static/run/run.json").read_text(encoding="utf-8"))
    about = run["about"]
    assert set(LANDING) <= set(run["results"]) and len(run["claims"]) == 11
    for name, result in run["results"].items():
        for said in (f"Profile {about['profile']}", about["data_hash"], "simulated"):
            assert said in result["source"], name
        assert result["figure"] == Path(ROOT / f"docs/_static/run/{name}.svg").is_file(), name
        assert result["simulated"] == ("simulated raters" in result["source"])
    if about["profile"] != "paper":
        verdicts = {c["verdict"] for c in run["claims"]}
        assert verdicts <= {"not comparable at this scale", "not run"}
