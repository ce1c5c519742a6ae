"""The text classifier: which licences do the files themselves contain?

It never looks at the metadata. `identify` decides about whole files; what it leaves open (several licences in one
file, a preamble, another layout) is searched for each of the 35 licence texts that `identify` carries, word by word,
with its own tolerance. Short notices ("Licensed under the Apache License …") count where no full text is found.
"Unknown" is an answer: there is no PSF-2.0 and no MIT-0 among the 35.
"""

import re
import tempfile
from dataclasses import dataclass
from functools import cache

import ukkonen
from identify.identify import license_id
from identify.vendor.licenses import LICENSES

from .documents import Document, Package, read_document
from .expressions import normalise

TOLERANCE = 0.05  # the share of a text that may differ, as in identify
ANCHOR_WORDS = 6
EXCERPT_CHARS = 160
NOTICE_WORDS = 200  # what a notice can speak for: a short file, not the whole of a long one
WORD = re.compile(r"[a-z0-9]+")
COPYRIGHT_LINE = re.compile(
    r"^\W*(copyright(?! (holders?|owners?|notices?|law|and|statements?)\b)|\(c\)|©).*$|all rights reserved\.?",
    re.I | re.M,
)
NOTICES = {
    "Apache-2.0": re.compile(r"licensed under the apache license,? version 2\.0", re.I),
    "MPL-2.0": re.compile(r"mozilla public license,? v(ersion|\.)? ?2\.0", re.I),
    "Artistic-2.0": re.compile(r"terms of the artistic license 2\.0", re.I),
    "GPL-2.0": re.compile(r"gnu general public license.{0,80}?version 2\b", re.I),
    "GPL-3.0": re.compile(r"gnu general public license.{0,80}?version 3\b", re.I),
    "LGPL-3.0": re.compile(r"gnu lesser general public license.{0,80}?version 3\b", re.I),
    "AGPL-3.0": re.compile(r"gnu affero general public license.{0,80}?version 3\b", re.I),
}


@dataclass(frozen=True)
class Finding:
    """One licence in one document, or None where nothing was recognised."""

    path: str
    sha256: str
    licence: str | None
    how: str  # "whole text" | "excerpt" | "notice" | "unknown" | what was wrong with the file
    excerpt: str  # the beginning of the text that was matched
    bundled: bool


@dataclass(frozen=True)
class Found:
    """What the documents contain. `read_share` is the part of the own licence files that was recognised."""

    own: list[str]
    bundled: list[str]
    read_share: float
    findings: list[Finding]
    done_by: str = ""


@dataclass(frozen=True)
class Match:
    licence: str
    how: str
    start: int  # of the matched text, in characters
    words: int


def classify_texts(package: Package) -> Found:
    """Identify the licences in the package's licence files, its notices, and the files of code bundled in it."""
    findings: list[Finding] = []
    words_read = words_all = 0
    for document in package.documents:
        if document.kind not in {"licence", "notice", "bundled"}:
            continue
        try:
            text = read_document(package.site, document)
        except (OSError, ValueError) as error:
            findings.append(_finding(document, None, f"not read: {error}", ""))
            continue
        matches = find_licences(text)
        findings += [_finding(document, m.licence, m.how, _excerpt(text, m.start)) for m in matches]
        if not matches:
            findings.append(_finding(document, None, "unknown", _excerpt(text, 0)))
        if document.kind == "licence":
            words_all += len(_words(text))
            words_read += sum(match.words for match in matches)
    own = {finding.licence for finding in findings if finding.licence and not finding.bundled}
    bundled = {finding.licence for finding in findings if finding.licence and finding.bundled}
    return Found(sorted(own), sorted(bundled - own), round(min(1.0, words_read / max(1, words_all)), 2), findings)


def find_licences(text: str) -> list[Match]:
    """The licences in a text, each once, in order: the whole of it, else excerpts, else a notice that names one."""
    words = _words(text)
    if whole := _identify(text):
        return [Match(whole, "whole text", 0, len(words))]
    return _excerpts(words) or _notices(text, len(words))


def _identify(text: str) -> str | None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write(text)
        file.flush()
        licence = license_id(file.name)
    return normalise(licence) if licence else None


def _excerpts(words: list[re.Match[str]]) -> list[Match]:
    spelled = [word.group() for word in words]
    found: dict[str, Match] = {}
    position = 0
    while position <= len(spelled) - ANCHOR_WORDS:
        candidates = _templates().get(tuple(spelled[position : position + ANCHOR_WORDS]), [])
        scored = ((_difference(spelled, position, body), licence, body) for licence, body in candidates)
        best = min(scored, default=None)
        if best is None or best[0] >= TOLERANCE:
            position += 1
            continue
        _, licence, body = best
        seen = found.get(licence)
        start, count = (seen.start, seen.words) if seen else (words[position].start(), 0)
        found[licence] = Match(licence, "excerpt", start, count + len(body))
        position += len(body)
    return list(found.values())


def _difference(spelled: list[str], position: int, body: list[str]) -> float:
    expected, given = " ".join(body), " ".join(spelled[position : position + len(body)])
    if abs(len(expected) - len(given)) > 2 * TOLERANCE * len(expected):
        return 1.0
    return ukkonen.distance(expected, given, int(TOLERANCE * len(expected)) + 1) / len(expected)


def _notices(text: str, words: int) -> list[Match]:
    flat = re.sub(r"\s", " ", text)
    return [
        Match(normalise(licence) or licence, "notice", notice.start(), min(words, NOTICE_WORDS))
        for licence, pattern in NOTICES.items()
        if (notice := pattern.search(flat))
    ]


@cache
def _templates() -> dict[tuple[str, ...], list[tuple[str, list[str]]]]:
    """Identify's licence texts without titles and appendix, by their first words."""
    templates: dict[tuple[str, ...], list[tuple[str, list[str]]]] = {}
    for licence, text in LICENSES:
        terms = text.partition("END OF TERMS AND CONDITIONS")[0]
        paragraphs = [[word.group() for word in _words(part)] for part in re.split(r"\n\s*\n", terms)]
        while len(paragraphs[0]) < 2 * ANCHOR_WORDS:  # titles, copyright lines
            paragraphs.pop(0)
        body = [word for paragraph in paragraphs for word in paragraph]
        templates.setdefault(tuple(body[:ANCHOR_WORDS]), []).append((normalise(licence) or licence, body))
    return templates


def _words(text: str) -> list[re.Match[str]]:
    blanked = COPYRIGHT_LINE.sub(lambda line: " " * len(line.group()), text)
    return list(WORD.finditer(blanked.lower()))


def _excerpt(text: str, start: int) -> str:
    return " ".join(text[start : start + 2 * EXCERPT_CHARS].split())[:EXCERPT_CHARS]


def _finding(document: Document, licence: str | None, how: str, excerpt: str) -> Finding:
    return Finding(document.path, document.sha256, licence, how, excerpt, document.kind == "bundled")
