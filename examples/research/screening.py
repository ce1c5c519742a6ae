"""What a person would read on a page, and which of its lines speak to machines instead."""

import hashlib
import re
from html.parser import HTMLParser

from .facts import Fetched, Page

BLOCKS = ("p", "h1", "h2", "li", "tr", "div", "br")
TO_MACHINES = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:instruction|rule|prompt)|\b(?:AI|language model|assistant)s?\b"
    r"|\bsystem prompt\b|\byou (?:must|are to) (?:report|answer|rank|say)\b",
    re.IGNORECASE,
)


def screen(fetched: Fetched) -> Page:
    """The page's text without lines that speak to machines; how many they were is kept."""
    lines = text_lines(fetched.html)
    kept = [line for line in lines if not TO_MACHINES.search(line)]
    digest = hashlib.sha256(fetched.html.encode()).hexdigest()
    return Page(fetched.where.url, digest, "\n".join(kept), cut=len(lines) - len(kept))


def text_lines(html: str) -> list[str]:
    """The text of a page, a line for each block or table row."""
    parser = Text()
    parser.feed(html)
    return [line for each in "".join(parser.parts).splitlines() if (line := " ".join(each.split()))]


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent = tag in ("title", "script", "style")
        if tag in BLOCKS:
            self.parts.append("\n")
        elif tag == "td":
            self.parts.append(": ")

    def handle_endtag(self, tag: str) -> None:
        self.silent = False
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)
