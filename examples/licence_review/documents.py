"""The collector: every installed distribution with its metadata and its licence documents.

A document is evidence, so it is listed with its size and SHA-256. The texts themselves stay on disk: an agent that
needs one reads it with `read_document`, which refuses a file that is no longer the one that was listed.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

FIELDS = ("License-Expression", "License", "License-File", "Classifier")
DOCUMENT_BYTES_MAX = 2_000_000
LICENCE_NAME = re.compile(
    r"^(un)?licen[cs]es?\b|^licen[cs]e|^copying|^copyright|(^|[._-])licen[cs]es?(\.(txt|md|rst))?$", re.I
)
NOTICE_NAME = re.compile(r"^notice", re.I)
NOT_PROSE = {".py", ".pyc", ".pyi", ".so", ".json", ".js", ".ts", ".yml", ".yaml", ".toml", ".png", ".svg"}


@dataclass(frozen=True)
class Document:
    """One file of evidence. `kind`: metadata, licence, notice, other, or bundled (a licence of vendored code)."""

    path: str  # relative to the folder that holds the distributions
    kind: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    site: str  # the folder that holds the distributions
    fields: dict[str, list[str]]  # the licence fields of the metadata, as written
    documents: list[Document]
    problem: str | None = None


@dataclass(frozen=True)
class Collection:
    site: str
    packages: list[Package]


class EnvironmentNotFound(Exception):
    """There is no Python environment at `path`, or nothing is installed in it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return (
            f"No Python environment to review at {self.path}: {self.problem}.\n"
            "Give --path a virtual environment, a site-packages folder, a prefix or a python executable."
        )


def find_site(path: Path) -> Path:
    """The folder that holds the distributions of the environment at `path`.

    Raises EnvironmentNotFound with what is wrong: missing, unreadable, empty, or several to choose from.
    """
    try:
        if not path.exists():
            raise EnvironmentNotFound(path, "there is no such file or folder")
        prefix = path.absolute().parent.parent if path.is_file() and os.access(path, os.X_OK) else path.absolute()
        if not prefix.is_dir():
            raise EnvironmentNotFound(path, "it is neither a folder nor a python executable")
        os.listdir(prefix)  # glob would take a folder that may not be read for an empty one
        patterns = ("lib/python*/site-packages", "lib/python*/dist-packages", "Lib/site-packages")
        found = [prefix, *(site for pattern in patterns for site in sorted(prefix.glob(pattern)) if site.is_dir())]
        found = [site for site in found if list(distribution_folders(site))]
    except OSError as error:
        raise EnvironmentNotFound(path, f"it cannot be read ({error.strerror or error})") from error
    if not found:
        raise EnvironmentNotFound(path, "no installed distribution (.dist-info or .egg-info) was found in it")
    if len(found) > 1:
        raise EnvironmentNotFound(path, "it holds several; choose one of " + ", ".join(map(str, found)))
    return found[0]


def collect(site: str) -> Collection:
    """Every distribution under `site`, in alphabetical order; one that cannot be read is listed with its problem."""
    packages = [_read_package(folder) for folder in distribution_folders(Path(site))]
    return Collection(site, sorted(packages, key=lambda package: (package.name.lower(), package.version)))


def read_document(site: str, document: Document) -> str:
    """The text of a document. Raises ValueError where the file is too large or not the one that was listed."""
    if document.size_bytes > DOCUMENT_BYTES_MAX:
        raise ValueError(f"larger than {DOCUMENT_BYTES_MAX:,} bytes")
    content = (Path(site) / document.path).read_bytes()
    if hashlib.sha256(content).hexdigest() != document.sha256:
        raise ValueError("changed since it was listed")
    return content.decode("utf-8", errors="replace")


def distribution_folders(site: Path) -> list[Path]:
    """Where the metadata of each distribution is."""
    return sorted(path for suffix in ("*.dist-info", "*.egg-info") for path in site.glob(suffix))


def _read_package(folder: Path) -> Package:
    name, _, version = folder.stem.partition("-")
    site = str(folder.parent)
    distribution = Distribution.at(folder)
    try:
        metadata = distribution.metadata
        fields = {field: [str(value) for value in metadata.get_all(field, [])] for field in FIELDS}
        name = next(iter(metadata.get_all("Name", [])), name)
        version = next(iter(metadata.get_all("Version", [])), version)
        documents = _documents(folder, distribution)
    except (OSError, TypeError, ValueError) as error:  # a torn or half-removed installation
        return Package(name, version, site, {}, [], problem=f"{folder.name} cannot be read: {error}")
    return Package(name, version, site, fields, documents)


def _documents(folder: Path, distribution: Distribution) -> list[Document]:
    own = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    kinds = {path: kind for path in own if (kind := _kind(path, folder))}
    for file in distribution.files or []:
        path = Path(os.path.normpath(folder.parent / file))
        outside = path.is_relative_to(folder.parent) and not path.is_relative_to(folder)
        if outside and _is_licence(path) and path.is_file():
            kinds[path] = "bundled"
    return [_document(path, folder.parent, kind) for path, kind in kinds.items()]


def _kind(path: Path, folder: Path) -> str | None:
    if path.name in {"METADATA", "PKG-INFO"} or path == folder:
        return "metadata"
    if path.suffix.lower() in NOT_PROSE:
        return None
    if _is_licence(path):
        return "licence"
    if NOTICE_NAME.search(path.name):
        return "notice"
    return "other" if path.parent != folder else None  # licenses/AUTHORS is evidence, RECORD is not


def _is_licence(path: Path) -> bool:
    return bool(LICENCE_NAME.search(path.name)) and path.suffix.lower() not in NOT_PROSE


def _document(path: Path, site: Path, kind: str) -> Document:
    content = path.read_bytes()
    return Document(str(path.relative_to(site)), kind, len(content), hashlib.sha256(content).hexdigest())
