"""The metadata classifier: which licence does a package declare?

License-Expression (PEP 639) wins over the License field, and that over the trove classifiers. The answer is an SPDX
expression, or only candidates where the declaration is vague ("BSD" does not say which), or nothing.
It never looks at the licence files.
"""

import re
from dataclasses import dataclass, field

from .documents import Package
from .expressions import all_of, normalise
from .texts import find_licences

BSD = ("BSD-2-Clause", "BSD-3-Clause")
NAMES: list[tuple[str, tuple[str, ...]]] = [  # what people write instead of an SPDX id; several ids: vague
    (r"(the )?(mit|expat)( license)?( \(mit\))?", ("MIT",)),
    (r"(the )?(apache|asl)( software)?( licen[cs]e)?,? ?(version |v)?\.?2(\.0)?", ("Apache-2.0",)),
    (r"(the )?(bsd[ -]3[ -]clause|3-clause bsd|modified bsd|new bsd|bsd new)( license)?", ("BSD-3-Clause",)),
    (r"(the )?(bsd[ -]2[ -]clause|2-clause bsd|simplified bsd|freebsd)( license)?", ("BSD-2-Clause",)),
    (r"(the )?bsd( license|-like|-style)?", BSD),
    (r"(the )?isc( license)?( \(iscl\))?", ("ISC",)),
    (r"(the )?(mpl|mozilla public license)[ -]?(version |v)?2(\.0)?( \(mpl 2\.0\))?", ("MPL-2.0",)),
    (r"(the )?(psf|psfl|python software foundation)( license)?", ("PSF-2.0",)),
    (r"(the )?zlib(/libpng)?( license)?", ("Zlib",)),
    (r"(the )?unlicense( \(unlicense\))?", ("Unlicense",)),
    (r"gnu lesser general public license v3( \(lgplv3\))?|lgpl ?v?3", ("LGPL-3.0-only",)),
    (r"gnu lesser general public license v3 or later( \(lgplv3\+\))?|lgpl ?v?3\+", ("LGPL-3.0-or-later",)),
    (
        r"gnu affero general public license v3( or later)?( \(agplv3\+?\))?|agpl ?v?3\+?",
        ("AGPL-3.0-only", "AGPL-3.0-or-later"),
    ),
    (r"gnu general public license v2( \(gplv2\))?|gpl ?v?2", ("GPL-2.0-only",)),
    (r"gnu general public license v2 or later( \(gplv2\+\))?|gpl ?v?2\+", ("GPL-2.0-or-later",)),
    (r"gnu general public license v3( \(gplv3\))?|gpl ?v?3", ("GPL-3.0-only",)),
    (r"gnu general public license v3 or later( \(gplv3\+\))?|gpl ?v?3\+", ("GPL-3.0-or-later",)),
    (
        r"gnu general public license( \(gpl\))?|gpl",
        ("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later"),
    ),
    (r"(the )?apache( software)?( license)?", ("Apache-1.1", "Apache-2.0")),
    (r"mit no attribution license( \(mit-0\))?", ("MIT-0",)),
    (r"boost software license 1\.0( \(bsl-1\.0\))?", ("BSL-1.0",)),
    (r"cc0 1\.0 universal( \(cc0 1\.0\) public domain dedication)?", ("CC0-1.0",)),
    (r"eclipse public license 2\.0( \(epl-2\.0\))?", ("EPL-2.0",)),
]
HOLDS_TEXT = "the field holds a licence text"
NAME_CHARS_MAX = 120  # a longer License field is the licence text itself


@dataclass(frozen=True)
class Declared:
    """What the metadata says. Either `expression`, or `candidates` (one of these), or neither: unknown."""

    expression: str | None = None
    candidates: list[str] = field(default_factory=list[str])
    source: str = "nothing declared"
    value: str = ""
    note: str = ""
    is_text: bool = False  # the field holds a licence text instead of a name
    done_by: str = ""


def classify_metadata(package: Package) -> Declared:
    """The declared licence by the first field that says something; `note` names what was skipped on the way."""
    skipped: list[str] = []
    for source, read in (("License-Expression", _expression), ("License", _license), ("Classifier", _classifiers)):
        values = [value.strip() for value in package.fields.get(source, [])]
        if source == "Classifier":
            values = [value for value in values if value.startswith("License ::")]
        if not values or values == ["UNKNOWN"] or not any(values):
            continue
        declared = read(values)
        if declared is not None:
            expression, candidates, note = declared
            notes = "; ".join(filter(None, [*skipped, note]))
            return Declared(expression, candidates, source, _shorten("; ".join(values)), notes, note == HOLDS_TEXT)
        skipped.append(f"{source} {_shorten('; '.join(values))!r} is not understood")
    return Declared(note="; ".join(skipped))


Reading = tuple[str | None, list[str], str]  # expression, candidates, note


def _expression(values: list[str]) -> Reading | None:
    expression = normalise(values[0])
    return (expression, [], "") if expression else None


def _license(values: list[str]) -> Reading | None:
    value = values[0]
    if expression := normalise(value):
        return expression, [], ""
    if len(value) > NAME_CHARS_MAX:
        licences = [match.licence for match in find_licences(value)]
        return (all_of(licences), [], HOLDS_TEXT) if licences else None
    return _named(value)


def _classifiers(values: list[str]) -> Reading | None:
    names = [value.rpartition("::")[2].strip() for value in values]
    readings = [_named(name) for name in names if name != "OSI Approved"]
    known = [reading for reading in readings if reading is not None]
    if not known or len(known) < len(readings):
        return None
    if len(known) == 1:
        return known[0]
    if any(expression is None for expression, _, _ in known):
        return None
    joined = all_of([expression for expression, _, _ in known if expression])
    return joined, [], "several classifiers do not say AND or OR: AND is the careful reading"


def _named(name: str) -> Reading | None:
    spelled = " ".join(name.lower().split())
    for pattern, licences in NAMES:
        if re.fullmatch(pattern, spelled):
            if len(licences) == 1:
                return licences[0], [], ""
            return None, list(licences), f"{name!r} does not say which"
    return None


def _shorten(value: str) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= NAME_CHARS_MAX else flat[: NAME_CHARS_MAX - 1] + "…"
