"""What the rules of the house (CONTRIBUTING.md) find in the package and its notebooks.

python tests/house.py [FOLDER …]    prints every breach, in these folders or in all, and counts
"""

import ast
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, NBS = ROOT / "arabic_dialog", ROOT / "nbs"
FOLDERS = (
    "core",
    "models",
    "generation",
    "finetuning",
    "metrics",
    "rating",
    "analysis",
    "reporting",
    "commands",
)
MOST_LINES = 40  # of a definition, formatted
MOST_EXPORTED = 500  # lines that a notebook exports

# Definitions that may be longer, each with its reason; five at most
LONG: dict[str, str] = {}
# Names that two modules may have, each with its reason
SHARED = {"app": "what uvicorn and typer call the thing that they run"}

# Modules of which the exported code may be longer, each with its reason
LONG_MODULES: dict[str, str] = {}  # module → why it may be long

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    "A module of the package and the notebook it is exported from"

    folder: str
    name: str
    number: int
    notebook: Path

    @property
    def title(self) -> str:
        return f"{self.folder}.{self.name}"

    @property
    def path(self) -> Path:
        return PACKAGE / self.folder / f"{self.name}.py"

    @property
    def place(self) -> tuple[int, int]:
        return FOLDERS.index(self.folder), self.number


@cache
def modules() -> dict[str, Module]:
    "Every module that a numbered notebook exports, but for the folders' own pages"
    found = {}
    for folder in FOLDERS:
        for path in sorted((NBS / folder).glob("[0-9][0-9]_*.ipynb")):
            number, name = path.stem.split("_", 1)
            if number != "00":
                module = Module(folder, name, int(number), path)
                found[module.title] = module
    return found


@cache
def cells(path: Path) -> list[dict]:
    "The cells of a notebook, their sources joined"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [{**c, "source": "".join(c["source"])} for c in notebook["cells"]]


def is_exported(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool(re.search(r"^#\|\s*export", cell["source"], re.M))


def exported(path: Path) -> str:
    "The code that a notebook exports"
    return "\n\n\n".join(c["source"] for c in cells(path) if is_exported(c))


def examples(path: Path) -> str:
    "The code that a notebook runs and does not export"
    return "\n".join(
        c["source"] for c in cells(path) if c["cell_type"] == "code" and not is_exported(c)
    )


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(exported(path))


def definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    "The definitions of a module and of its classes; not those inside functions"
    for n in body:
        if isinstance(n, Definition):
            yield n
        if isinstance(n, ast.ClassDef):
            yield from definitions(n.body)


def assigned(n: ast.stmt) -> list[str]:
    "The names that a statement of a module gives a value"
    if isinstance(n, Definition):
        return [n.name]
    targets = n.targets if isinstance(n, ast.Assign) else [getattr(n, "target", None)]
    return [x.id for t in targets if t is not None for x in ast.walk(t) if isinstance(x, ast.Name)]


def public_names(module: Module) -> list[str]:
    return [n for s in tree(module.notebook).body for n in assigned(s) if not n.startswith("_")]


def length(n: ast.AST) -> int:
    "The lines of a definition, its decorators left out"
    return n.end_lineno - n.lineno + 1


@dataclass(frozen=True)
class Import:
    "A name that a file imports: of a module of this package, or of another"

    module: str  # `folder.module` of this package, or the whole name of another
    name: str
    own: bool
    inside: bool  # a function, or `if TYPE_CHECKING`


def imports(path: Path, folder: str = "") -> list[Import]:
    "Every import of a Python file, also those inside functions"
    module = ast.parse(path.read_text(encoding="utf-8"))
    later = ast.FunctionDef | ast.AsyncFunctionDef | ast.If  # an `if` is for the types
    within = {id(n) for f in ast.walk(module) if isinstance(f, later) for n in ast.walk(f)}
    found = []
    for n in ast.walk(module):
        inside = id(n) in within
        if isinstance(n, ast.Import):
            found += [Import(a.name, "", False, inside) for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            found += [_imported(n, a.name, folder, inside) for a in n.names]
    return found


def _imported(n: ast.ImportFrom, name: str, folder: str, inside: bool) -> Import:
    path = (n.module or "").split(".") if n.module else []
    if n.level == 1 and folder:
        path = [folder, *path]
    elif not n.level:
        if path[0] != "arabic_dialog":
            return Import(n.module, name, False, inside)
        path = path[1:]
    if len(path) == 1 and path[0] in FOLDERS:
        return Import(f"{path[0]}.{name}", "", True, inside)
    return Import(".".join(path), name, True, inside)


# --- the rules, each a function from a module to its breaches


def climbs(m: Module) -> Iterator[str]:
    "A folder imports only from those above it; inside a folder, a module from lower numbers"
    for i in imports(m.path, m.folder):
        if i.own and i.module in modules() and modules()[i.module].place >= m.place:
            yield f"imports {i.module}, which stands below it"


def takes_private_names(m: Module) -> Iterator[str]:
    "Nothing imports another module's `_name`"
    for i in imports(m.path, m.folder):
        if i.own and i.name.startswith("_") and not i.name.startswith("__"):
            yield f"imports {i.name} of {i.module}"


def has_long_definitions(m: Module) -> Iterator[str]:
    "A definition can be seen at once"
    for n in definitions(tree(m.notebook).body):
        if isinstance(n, ast.ClassDef) or f"{m.title}.{n.name}" in LONG:
            continue
        if length(n) > MOST_LINES:
            yield f"{n.name} has {length(n)} lines"


def is_long(m: Module) -> Iterator[str]:
    "A notebook exports what one can read in ten minutes"
    n = len(exported(m.notebook).splitlines())
    if n > MOST_EXPORTED and m.title not in LONG_MODULES:
        yield f"exports {n} lines"


def leaves_names_unused(m: Module) -> Iterator[str]:
    "Every public definition is used in its own notebook"
    used = set(re.findall(r"\w+", examples(m.notebook)))
    for n in tree(m.notebook).body:
        if isinstance(n, Definition) and not n.name.startswith("_") and n.name not in used:
            yield f"{n.name} is never used in its notebook"


def swallows_errors(m: Module) -> Iterator[str]:
    "An example of a failure can fail: `with expect_fail(UserError, …)`, not try and print"
    for n in ast.walk(ast.parse(examples(m.notebook))):
        if isinstance(n, ast.Try) and any("UserError" in ast.dump(h) for h in n.handlers):
            yield f"an example catches UserError by try ({ast.unparse(n.body[0])[:50]} …)"


def stores_no_output(m: Module) -> Iterator[str]:
    "A notebook shows what its cells give"
    if not any(c.get("outputs") for c in cells(m.notebook)):
        yield "stores no output"


def mixes_imports(m: Module) -> Iterator[str]:
    "A cell with an import has nothing else: the site's build runs such cells, and only those"
    for c in cells(m.notebook):
        if c["cell_type"] != "code":
            continue
        body = ast.parse(c["source"]).body
        loads = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
        for_types = [n for n in body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n)]
        if loads and len(loads) + len(for_types) < len(body):
            yield f"an import and more in one cell: {c['source'][:60]!r}"


def begins_badly(m: Module) -> Iterator[str]:
    "A notebook begins with its title and the module's sentence, and has prose"
    if not re.match(rf"# {m.name}\n\n> \S", cells(m.notebook)[0]["source"]):
        yield "does not begin with its title and the module's sentence"
    prose = [c for c in cells(m.notebook) if c["cell_type"] == "markdown"]
    if len(prose) < len(cells(m.notebook)) / 8:
        yield "has too little prose"


def imports_idly(m: Module) -> Iterator[str]:
    "A module imports what it uses: what only examples need is imported by a cell of its own"
    rules = "--select=F401,F811,F821"
    ruff = [Path(sys.executable).with_name("ruff"), "check", "--isolated", "--no-cache", rules]
    done = subprocess.run(
        [*ruff, "--output-format=concise", m.path], capture_output=True, text=True
    )
    for line in done.stdout.splitlines():
        if ".py:" in line:
            yield line.split(": ", 1)[1]


RULES = (
    climbs,
    takes_private_names,
    has_long_definitions,
    is_long,
    leaves_names_unused,
    swallows_errors,
    stores_no_output,
    mixes_imports,
    begins_badly,
    imports_idly,
)


def shared_names() -> dict[str, list[str]]:
    "Public names that two modules define"
    homes = defaultdict(list)
    for m in modules().values():
        for name in dict.fromkeys(public_names(m)):
            homes[name].append(m.title)
    return {n: at for n, at in sorted(homes.items()) if len(at) > 1 and n not in SHARED}


def fixed_dictionaries(m: Module) -> list[str]:
    "Functions that return a dictionary with fixed keys, where a record may be meant"

    def fixed(r: ast.AST) -> bool:
        d = r.value if isinstance(r, ast.Return) else None
        keys = d.keys if isinstance(d, ast.Dict) else []
        return len(keys) > 1 and all(isinstance(k, ast.Constant) for k in keys)

    every = definitions(tree(m.notebook).body)
    return [n.name for n in every if any(fixed(r) for r in ast.walk(n))]


def pictures(m: Module) -> int:
    "Pictures among the outputs of a notebook"
    outputs = [o for c in cells(m.notebook) for o in c.get("outputs", [])]
    return sum(bool({"image/png", "image/svg+xml"} & o.get("data", {}).keys()) for o in outputs)


def counts(of: list[Module]) -> str:
    "What is watched, as text"
    functions = [
        n for m in of for n in definitions(tree(m.notebook).body) if not isinstance(n, ast.ClassDef)
    ]
    lines = sorted(map(length, functions))
    characters = sorted(len(ast.unparse(n)) for n in functions)
    statements = sorted(sum(isinstance(x, ast.stmt) for x in ast.walk(n)) - 1 for n in functions)
    rows = [("modules", len(of)), ("functions and methods", len(functions))]
    for name, values in (("lines", lines), ("characters", characters), ("statements", statements)):
        middle, ninety = values[len(values) // 2], values[len(values) * 9 // 10]
        rows.append((f"{name} a function: median, 90 %, most", (middle, ninety, values[-1])))
    rows.append(
        ("return a dictionary with fixed keys", sum(len(fixed_dictionaries(m)) for m in of))
    )
    rows.append(("pictures", sum(map(pictures, of))))
    return "\n".join(f"{name}: {value}" for name, value in rows)


def main(*folders: str) -> int:
    of = [m for m in modules().values() if not folders or m.folder in folders]
    n = Counter()
    for rule in RULES:
        for m in of:
            for breach in rule(m):
                n[rule.__name__] += 1
                print(f"{m.title}: {breach}")
    for name, at in shared_names().items():
        if not folders or any(t.split(".")[0] in folders for t in at):
            n["shared_names"] += 1
            print(f"{name} means two things: {', '.join(at)}")
    print(counts(of))
    print(*(f"{rule}: {count}" for rule, count in n.items()), sep="\n")
    return 1 if n else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
