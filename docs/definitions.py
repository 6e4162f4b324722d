"""A module's notebook as a page of the site: prose, examples, definitions as they are written."""

import ast
import copy
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# What a reader's eye can take in at once: signatures that fit are written on one line
WIDTH = 88
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass(frozen=True)
class Parameter:
    "A parameter or field as it stands in the source"

    text: str  # `top_p: float = 0.9`
    comment: str  # what the source says of it, after `#`


def comments(source: str) -> dict[int, str]:
    "The comment of each line of some code"
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def comment_between(notes: dict[int, str], first: int, last: int) -> str:
    "What is said of a piece of code: the comments of its lines, joined"
    return " ".join(notes[n] for n in range(first, last + 1) if n in notes)


def parameters(function: ast.FunctionDef, notes: dict[int, str]) -> list[Parameter]:
    "The parameters of a function, `self` left out, with types and defaults as written"
    args = function.args
    named = [*args.posonlyargs, *args.args]
    optional = [a.arg for a in named[len(named) - len(args.defaults) :]]
    plain = dict(zip(optional, args.defaults, strict=True))
    plain |= {a.arg: d for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d}
    found = [_parameter(a, plain.get(a.arg), notes) for a in named if a.arg not in ("self", "cls")]
    if args.vararg:
        found.append(_parameter(args.vararg, None, notes, "*"))
    elif args.kwonlyargs:
        found.append(Parameter("*", ""))
    found += [_parameter(a, plain.get(a.arg), notes) for a in args.kwonlyargs]
    if args.kwarg:
        found.append(_parameter(args.kwarg, None, notes, "**"))
    return found


def _parameter(
    arg: ast.arg, default: ast.expr | None, notes: dict[int, str], stars: str = ""
) -> Parameter:
    text = stars + arg.arg
    if arg.annotation:
        text += f": {plain_type(arg.annotation)}"
    if default is not None:
        text += (" = " if arg.annotation else "=") + ast.unparse(default)
    last = default.end_lineno if default is not None else arg.end_lineno
    return Parameter(text, comment_between(notes, arg.lineno, last))


def plain_type(annotation: ast.expr) -> str:
    "A type as written; one in quotes without them"
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def fields(record: ast.ClassDef, notes: dict[int, str]) -> list[Parameter]:
    "The fields of a record"
    return [
        Parameter(
            f"{n.target.id}: {plain_type(n.annotation)}"
            + (f" = {ast.unparse(n.value)}" if n.value else ""),
            comment_between(notes, n.lineno, n.end_lineno),
        )
        for n in record.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    ]


def signature(definition: Definition, notes: dict[int, str]) -> str:
    "The head of a definition: one parameter a line with what is said of it, or all on one line"
    if isinstance(definition, ast.ClassDef):
        makers = [n for n in definition.body if getattr(n, "name", "") == "__init__"]
        inside = parameters(makers[0], notes) if makers else fields(definition, notes)
        head, end = f"class {definition.name}(", ")"
    else:
        inside = parameters(definition, notes)
        kind = "async def" if isinstance(definition, ast.AsyncFunctionDef) else "def"
        head = f"{kind} {definition.name}("
        end = f") -> {plain_type(definition.returns)}" if definition.returns else ")"
    one_line = head + ", ".join(p.text for p in inside) + end
    if len(one_line) <= WIDTH and not any(p.comment for p in inside):
        return one_line.removesuffix("()") if isinstance(definition, ast.ClassDef) else one_line
    widest = max((len(p.text) for p in inside if p.comment), default=0)
    lines = [
        f"    {p.text},".ljust(widest + 5) + f"  # {p.comment}" * bool(p.comment) for p in inside
    ]
    return "\n".join([head, *(line.rstrip() for line in lines), end])


def public_definitions(source: str) -> Iterator[tuple[Definition, str]]:
    "(definition, its page's text) of what a cell offers to others"
    notes = comments(source)
    for n in ast.parse(source).body:
        if isinstance(n, Definition) and not n.name.startswith("_"):
            yield n, describe(n, notes)


def describe(definition: Definition, notes: dict[int, str]) -> str:
    "A definition as Markdown: heading, signature, docstring, public methods"
    parts = [f"## {definition.name}", f"```python\n{signature(definition, notes)}\n```"]
    if doc := ast.get_docstring(definition):
        parts.append(doc)
    if isinstance(definition, ast.ClassDef):
        parts += [method for n in definition.body for method in describe_method(n, notes)]
    return "\n\n".join(parts)


def describe_method(n: ast.stmt, notes: dict[int, str]) -> list[str]:
    "A public method with a docstring, as an item of a list"
    if not isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) or n.name.startswith("_"):
        return []
    doc = (ast.get_docstring(n) or "").partition("\n\n")[0].replace("\n", " ")
    if any(ast.unparse(d) in ("property", "cached_property") for d in n.decorator_list):
        head = f".{n.name}" + (f" → {plain_type(n.returns)}" if n.returns else "")
    else:
        named = ", ".join(p.text for p in parameters(n, notes))
        head = f".{n.name}({named})" + (f" → {plain_type(n.returns)}" if n.returns else "")
    return [f"- `{head}`" + f"  \n  {doc}" * bool(doc)]


def without_asserts(source: str) -> str:
    "An example without its tests, which are for machines"
    lines = source.split("\n")
    for n in reversed(ast.parse(source).body):
        if isinstance(n, ast.Assert):
            del lines[n.lineno - 1 : n.end_lineno]
    return "\n".join(lines).strip("\n")


def as_markdown(source: str, name: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "id": name, "source": source}


def linked(text: str, pages: dict[str, str]) -> str:
    "Prose in which each definition that is named in `code` leads to its page"

    def link(match: re.Match) -> str:
        name = match[1].rpartition(".")[2].removesuffix("()")
        return f"[{match[0]}]({pages[name]}#{name.lower()})" if name in pages else match[0]

    parts = re.split(r"(```.*?```|\[[^\]]*\]\([^)]*\)|^#.*$)", text, flags=re.S | re.M)
    parts[::2] = [re.sub(r"`([\w.]+(?:\(\))?)`", link, part) for part in parts[::2]]
    return "".join(parts)


def as_page(notebook: dict, link: str, pages: dict[str, str]) -> dict:
    """A notebook (as JSON) for myst-nb

    `link` leads to the notebook itself, `pages` from the name of a definition to its page.
    """
    of = notebook["cells"]
    cells = [c for n, cell in enumerate(of) for c in adapt(cell, link, first=n == 0)]
    for cell in cells:
        if cell.get("id") == "prose":
            cell["source"] = linked(cell["source"], pages)
    for n, cell in enumerate(cells):
        cell["id"] = f"c{n}"
    return {**notebook, "metadata": {"kernelspec": KERNEL}, "cells": cells}


def adapt(cell: dict, link: str, first: bool = False) -> list[dict]:
    """The cells that stand on the site for one of a notebook

    Below its title a notebook may say how it is run (`- skip_exec: true`): not for readers.
    """
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        plain = re.sub(r"^- [a-z_]+: .*\n?", "", source, flags=re.M) if first else source
        return [as_markdown(plain, "prose")]
    if cell["cell_type"] != "code" or re.search(r"^#\|\s*(hide|default_exp)", source, re.M):
        return []
    code = re.sub(r"^#\|.*\n?", "", source, flags=re.M)
    if re.search(r"^#\|\s*export", source, re.M):
        return list(exported(code, link))
    return example(cell, code, shown="echo: false" not in source)


def exported(code: str, link: str) -> Iterator[dict]:
    "What an exported cell says on the site: its public definitions, each with a way to its source"
    for definition, text in public_definitions(code):
        heading, _, rest = text.partition("\n\n")
        source = f'<a class="source" href="{link}">source</a>'
        yield as_markdown(f"{heading}\n\n{source}\n\n{rest}", definition.name)


def example(cell: dict, code: str, shown: bool) -> list[dict]:
    "An example with what it gave: its tests and what lives in Jupyter only are left out"
    code = without_asserts(code)
    kept = copy.deepcopy(cell)
    widget = "application/vnd.jupyter.widget-view+json"
    kept["outputs"] = [o for o in cell.get("outputs", []) if widget not in o.get("data", {})]
    if not code and not kept["outputs"]:
        return []
    if not (shown and code):
        tags = ["remove-input"]
    else:
        tags = ["hide-input"] if only_imports(code) else []
    return [{**kept, "source": code, "metadata": {"tags": tags} if tags else {}}]


def only_imports(code: str) -> bool:
    "Imports can be unfolded by whom they concern"
    return all(isinstance(n, ast.Import | ast.ImportFrom) for n in ast.parse(code).body)
