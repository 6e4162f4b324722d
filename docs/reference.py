"""Two pages made from the code itself: every command with its options, every setting by profile."""

import ast
import configparser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from definitions import comment_between, comments, plain_type

PROFILES = ("offline", "paper", "smoke")
# What a setting takes, by the type that the code gives it
TYPES = {
    "str": "text",
    "bool": "true or false",
    "int": "whole number",
    "float": "number",
    "Count": "whole number, 0 or more",
    "Positive": "whole number, 1 or more",
    "Share": "0 to 1",
    "Rate": "number above 0",
    "Names": "names, by commas",
    "Integers": "whole numbers, by commas",
}
# What an option takes, by the type of its value
KINDS = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH"}


@dataclass(frozen=True)
class Setting:
    "A key of settings.ini"

    key: str
    type: str
    meaning: str
    topic: str  # the heading under which the code has it


def escape(text: str) -> str:
    "Text for a cell of a Markdown table"
    for sign in "\\|<>*_":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def row(*values: str) -> str:
    return "| " + " | ".join(values) + " |"


def table(headings: list[str], rows: list[list[str]]) -> str:
    return "\n".join([row(*headings), row(*["---"] * len(headings)), *(row(*r) for r in rows)])


# --- commands


def commands_page() -> str:
    "Every command of `arabic-dialog`, from the command line's own description of itself"
    import typer.main
    from arabic_dialog.commands.cli import app

    group = typer.main.get_command(app)
    head = (
        "# Commands\n\n> Everything that `arabic-dialog` does, with all options\n\n"
        "Made from the program's own help. `arabic-dialog COMMAND --help` says the same.\n"
    )
    return "\n".join([head, *describe_group(group, "arabic-dialog")])


def describe_group(group, path: str) -> Iterator[str]:
    "The commands of a group, and of the groups inside it"
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from describe_group(command, f"{path} {name}")
        else:
            yield describe_command(command, f"{path} {name}")


def describe_command(command, path: str) -> str:
    "A command as Markdown: what it does, how it is called, its arguments and options"
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    called = " ".join([path, *(a.make_metavar_text() for a in map(Shown, arguments)), "[OPTIONS]"])
    parts = [f"## {path}", (command.help or "").strip(), f"```sh\n{called}\n```"]
    rows = [Shown(p).row() for p in shown]
    if rows:
        parts.append(table(["", "takes", "default", ""], rows))
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Shown:
    "An argument or option of a command, as a reader sees it"

    parameter: object

    def names(self) -> str:
        p = self.parameter
        if p.param_type_name == "argument":
            return code(self.make_metavar_text())
        return ", ".join(map(code, [*p.opts, *p.secondary_opts]))

    def make_metavar_text(self) -> str:
        p = self.parameter
        name = p.metavar or p.name.upper()
        if p.nargs != 1:
            name += "…"
        return name if p.required else f"[{name}]"

    def takes(self) -> str:
        p = self.parameter
        if p.param_type_name == "argument" or p.is_flag:
            return ""
        kind = p.type_descriptor.annotation
        kind = next(iter(get_args(kind)), kind)  # of each value of an option that may be repeated
        text = p.metavar or KINDS.get(kind, getattr(kind, "__name__", "VALUE"))
        return code(text) + ", may be repeated" * p.multiple

    def default(self) -> str:
        value = self.parameter.default
        if value is None or callable(value) or value is False or value in ((), [], ""):
            return ""
        return code(str(getattr(value, "value", value)))

    def row(self) -> list[str]:
        text = getattr(self.parameter, "help", None) or ""
        return [self.names(), self.takes(), self.default(), escape(text)]


# --- settings


def load_settings(notebook_code: str) -> list[Setting]:
    "Every setting in the classes that make up a profile, with what the code says of it"
    notes = comments(notebook_code)
    settings = []
    for record in ast.parse(notebook_code).body:
        if isinstance(record, ast.ClassDef) and record.name.endswith(("Settings", "Profile")):
            settings += settings_of(record, notes, notebook_code.split("\n"))
    return settings


def settings_of(record: ast.ClassDef, notes: dict[int, str], lines: list[str]) -> Iterator[Setting]:
    "The settings of one class; a comment on a line of its own is the heading of those below it"
    headings = {n: text for n, text in notes.items() if lines[n - 1].strip().startswith("#")}
    topic = (ast.get_docstring(record) or "").rstrip(".")
    last = record.lineno
    for n in record.body:
        above = [headings[k] for k in range(last, n.lineno) if k in headings]
        topic = above[-1] if above else topic
        last = n.end_lineno
        if not isinstance(n, ast.AnnAssign) or n.target.id in ("name", "model_config"):
            continue
        meaning = comment_between(notes, n.lineno, n.end_lineno)
        yield Setting(alias_of(n) or n.target.id, what_it_takes(n), meaning, topic)


def what_it_takes(field: ast.AnnAssign) -> str:
    "The values that a setting may have: a kind of value with its bounds, or a list of words"
    kind = plain_type(field.annotation)
    if kind.startswith("Literal["):
        return " · ".join(str(w) or "(empty)" for w in ast.literal_eval(f"({kind[8:-1]},)"))
    bounds = {k.arg: ast.unparse(k.value) for k in getattr(field.value, "keywords", [])}
    words = {"ge": "from", "gt": "above", "le": "to"}
    limits = [f"{words[k]} {bounds[k]}" for k in words if k in bounds]
    return " ".join([TYPES.get(kind, kind), *limits])


def alias_of(field: ast.AnnAssign) -> str:
    "The name that a field has in settings.ini, where it is another"
    keywords = field.value.keywords if isinstance(field.value, ast.Call) else []
    return next((k.value.value for k in keywords if k.arg == "alias"), "")


def settings_page(settings: list[Setting], path: Path) -> str:
    "Every setting by topic: its meaning, its type, and its value in each profile"
    profiles = configparser.ConfigParser(interpolation=None)
    profiles.read(path, encoding="utf-8")
    parts = [
        "# Settings",
        "> Every key of `settings.ini`, what it means, and its value in each profile",
        "`[DEFAULT]` holds what the profiles share; a profile changes what is its own. One run is "
        "told otherwise with `--set KEY=VALUE`. Where a profile's cell is empty, it has the value "
        "of `[DEFAULT]`.",
    ]
    for topic in dict.fromkeys(s.topic for s in settings):
        rows = [setting_row(s, profiles) for s in settings if s.topic == topic]
        parts += [f"## {topic[0].upper()}{topic[1:]}", table(["key", "meaning", *HEADINGS], rows)]
    return "\n\n".join(parts) + "\n"


HEADINGS = ["takes", "default", *PROFILES]


def setting_row(setting: Setting, profiles: configparser.ConfigParser) -> list[str]:
    default = profiles.defaults().get(setting.key, "")
    changed = [profiles[p].get(setting.key, "") for p in PROFILES]
    cells = ["" if value == default else code(value) for value in changed]
    return [code(setting.key), escape(setting.meaning), escape(setting.type), code(default), *cells]
