"""What is wrong with the addresses on a folder of pages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import unquote

ELSEWHERE = r"(?:https?:)?//"


@dataclass(frozen=True)
class Page:
    "A page of a site, by its path from the site's root"

    root: Path
    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.relative_to(self.root).as_posix()


def load_pages(root: Path) -> dict[Path, Page]:
    "Every page under `root` but for the theme's templates"
    paths = [p for p in sorted(root.rglob("*.html")) if p.relative_to(root).parts[0] != "_static"]
    return {p.resolve(): Page(root, p, p.read_text(encoding="utf-8")) for p in paths}


def loads_from_elsewhere(page: Page) -> Iterator[str]:
    "What a browser would load from another place on opening the page"
    tags = r"<(?:script|img|iframe|source)\b[^>]*?\bsrc="
    yield from re.findall(rf'{tags}"({ELSEWHERE}[^"]+)"', page.text)
    for tag in re.findall(r"<link\b[^>]*>", page.text):
        if 'rel="canonical"' not in tag:
            yield from re.findall(rf'href="({ELSEWHERE}[^"]+)"', tag)


def own_addresses(page: Page) -> set[str]:
    "The addresses on a page that lead to a place of the same site"
    tags = " ".join(re.findall(r"<[a-zA-Z][^>]*>", page.text))  # not what a page quotes
    every = {unescape(a) for a in re.findall(r'(?:href|src)="([^"]*)"', tags)}
    return {a for a in every if a and not re.match(r"[a-z][a-z0-9+.-]*:|//", a, re.I)}


def broken_links(root: Path) -> list[str]:
    "Links that lead nowhere, and things that a browser would load from elsewhere"
    pages = load_pages(root)
    parts = {at: set(re.findall(r'\bid="([^"]+)"', page.text)) for at, page in pages.items()}
    found = set()
    for page in pages.values():
        found |= {f"{page.name} loads {a}" for a in loads_from_elsewhere(page)}
        for address in own_addresses(page):
            name, _, part = address.partition("#")
            target = page.path
            if name:
                target = page.path.parent / unquote(name.split("?")[0])
            target = target.resolve()
            if not target.exists():
                found.add(f"{page.name}: {address} leads nowhere")
            elif part and target in parts and unquote(part) not in parts[target]:
                found.add(f"{page.name}: {address} names no part of that page")
    return sorted(found)
