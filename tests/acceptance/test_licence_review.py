"""The licence review: what its agents conclude, alone and together, on real licence texts."""

from importlib.metadata import distribution
from pathlib import Path

import pytest

from examples.licence_review.arbiter import Case, agreement, arbitrate
from examples.licence_review.documents import EnvironmentNotFound, Package, collect, find_site, read_document
from examples.licence_review.metadata import Declared, classify_metadata
from examples.licence_review.policy import PolicyCheck, PolicyError, check_policy, load_policy
from examples.licence_review.texts import Found, classify_texts, find_licences

POLICY = Path(__file__).parents[2] / "examples" / "licence_review" / "policy.yaml"
SOURCES = {
    "MIT": "pytest",
    "MPL-2.0": "hypothesis",
    "BSD-3-Clause": "msgspec",
    "BSD-2-Clause": "Pygments",
    "PSF-2.0": "typing_extensions",
}


def real_text(licence: str) -> str:
    """A licence's text as an installed distribution ships it."""
    files = distribution(SOURCES[licence]).files or []
    return next(file for file in files if file.name.upper().startswith("LICENSE")).read_text()


def install(site: Path, name: str, metadata: str = "", **files: str) -> None:
    """A distribution as an installer leaves it; `files` are its licence files (LICENSE_MIT is LICENSE.MIT)."""
    folder = site / f"{name}-1.0.dist-info"
    (folder / "licenses").mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{metadata}\n", encoding="utf-8"
    )
    for file, text in files.items():
        (folder / "licenses" / file.replace("_", ".")).write_text(text, encoding="utf-8")


def only_package(site: Path) -> Package:
    (package,) = collect(str(site)).packages
    return package


# --- the collector ----------------------------------------------------------------------------------------------------


def test_an_environment_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    install(site, "one")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    assert {find_site(path) for path in (tmp_path, site, python)} == {site}


@pytest.mark.parametrize("made", ["nothing", "empty", "file"])
def test_a_path_without_distributions_is_refused_with_its_reason(tmp_path: Path, made: str) -> None:
    path = tmp_path / "environment"
    if made == "empty":
        path.mkdir()
    if made == "file":
        path.write_text("")
    with pytest.raises(EnvironmentNotFound, match=str(path)) as refused:
        find_site(path)
    assert refused.value.problem


def test_a_torn_installation_is_listed_with_its_problem(tmp_path: Path) -> None:
    (tmp_path / "torn-2.0.dist-info").mkdir()
    package = only_package(tmp_path)
    assert (package.name, package.version) == ("torn", "2.0")
    case = Case("torn", classify_metadata(package), classify_texts(package))
    assert arbitrate(case).rule == "unresolved"


def test_licences_of_vendored_code_are_collected_as_bundled(tmp_path: Path) -> None:
    install(tmp_path, "host", "License-Expression: MIT", LICENSE=real_text("MIT"))
    vendored = tmp_path / "host" / "_vendor" / "LICENSE.txt"
    vendored.parent.mkdir(parents=True)
    vendored.write_text(real_text("BSD-3-Clause"), encoding="utf-8")
    (tmp_path / "host-1.0.dist-info" / "RECORD").write_text(
        "host/_vendor/LICENSE.txt,,\nhost/license.py,,\n../../bin/LICENSE,,\n"
    )
    package = only_package(tmp_path)
    assert [document.kind for document in package.documents] == ["metadata", "licence", "bundled"]
    found = classify_texts(package)
    assert (found.own, found.bundled) == (["MIT"], ["BSD-3-Clause"])


def test_a_document_that_changed_since_it_was_listed_is_not_read(tmp_path: Path) -> None:
    install(tmp_path, "moving", LICENSE=real_text("MIT"))
    package = only_package(tmp_path)
    document = next(each for each in package.documents if each.kind == "licence")
    (tmp_path / document.path).write_text("something else")
    with pytest.raises(ValueError, match="changed"):
        read_document(package.site, document)
    assert [finding.how for finding in classify_texts(package).findings] == ["not read: changed since it was listed"]


# --- the classifiers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "expression", "source"),
    [
        ("License-Expression: mit or apache-2.0\nLicense: GPL", "MIT OR Apache-2.0", "License-Expression"),
        ("License-Expression: LicenseRef-Ours", "LicenseRef-Ours", "License-Expression"),
        ("License-Expression: Nonsense\nLicense: Apache 2.0", "Apache-2.0", "License"),
        ("License: GPL-3.0+", "GPL-3.0-or-later", "License"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: ISC License (ISCL)", "ISC", "Classifier"),
        (
            "Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: MIT License",
            "MIT",
            "Classifier",
        ),
        ("Classifier: Programming Language :: Python", None, "nothing declared"),
    ],
)
def test_the_most_exact_field_declares_the_licence(tmp_path: Path, metadata: str, expression: str, source: str) -> None:
    install(tmp_path, "declared", metadata)
    declared = classify_metadata(only_package(tmp_path))
    assert (declared.expression, declared.source) == (expression, source)


def test_a_vague_name_gives_candidates_and_no_expression(tmp_path: Path) -> None:
    install(tmp_path, "vague", "License: BSD")
    declared = classify_metadata(only_package(tmp_path))
    assert declared.expression is None
    assert declared.candidates == ["BSD-2-Clause", "BSD-3-Clause"]


def test_a_field_that_was_skipped_is_named(tmp_path: Path) -> None:
    install(tmp_path, "dual", "License: Dual License\nClassifier: License :: OSI Approved :: MIT License")
    assert "'Dual License' is not understood" in classify_metadata(only_package(tmp_path)).note


@pytest.mark.parametrize("licence", ["MIT", "MPL-2.0", "BSD-3-Clause", "BSD-2-Clause"])
def test_a_real_licence_file_is_recognised_whole(licence: str) -> None:
    assert [(match.licence, match.how) for match in find_licences(real_text(licence))] == [(licence, "whole text")]


def test_several_licences_in_one_file_are_all_found() -> None:
    text = f"Parts are under different terms.\n\n{real_text('MIT')}\n-----\n{real_text('BSD-3-Clause')}\n"
    assert [match.licence for match in find_licences(text)] == ["MIT", "BSD-3-Clause"]


def test_the_same_text_in_other_lines_is_still_recognised() -> None:
    words = real_text("MIT").partition("Permission")[2].split()
    text = "Our own title\n\nPermission " + "\n".join(" ".join(words[i : i + 5]) for i in range(0, len(words), 5))
    assert [match.licence for match in find_licences(text)] == ["MIT"]


def test_a_text_outside_of_the_known_ones_is_unknown(tmp_path: Path) -> None:
    install(tmp_path, "own", LICENSE="You may use this on Tuesdays.")
    found = classify_texts(only_package(tmp_path))
    assert (found.own, found.read_share) == ([], 0.0)
    assert found.findings[0].how == "unknown"


def test_the_python_licence_is_read_only_in_part() -> None:
    share = Found(["0BSD"], [], 0.05, [])
    assert [match.licence for match in find_licences(real_text("PSF-2.0"))] == share.own


# --- the arbiter ------------------------------------------------------------------------------------------------------


def case(expression: str | None, own: list[str], share: float = 1.0, bundled: str = "", vague: str = "") -> Case:
    declared = Declared(expression, vague.split(), "License", "as written")
    return Case("some", declared, Found(own, bundled.split(), share, []))


def test_one_licence_named_by_both_needs_no_arbiter() -> None:
    agreed = agreement(case("MIT", ["MIT"]))
    assert agreed is not None
    assert agreed.expression == "MIT"
    assert agreement(case("MIT", ["MIT"], bundled="ISC")) is None


@pytest.mark.parametrize(
    ("disputed", "rule", "expression", "sure"),
    [
        (case("MIT-0", [], 0.0), "metadata-only", "MIT-0", True),
        (case(None, ["BSD-3-Clause"]), "text-only", "BSD-3-Clause", True),
        (case(None, ["BSD-3-Clause"], 0.1), "unresolved", None, False),
        (case(None, ["BSD-3-Clause"], vague="BSD-2-Clause BSD-3-Clause"), "text-is-more-exact", "BSD-3-Clause", True),
        (case("MIT OR Apache-2.0", ["Apache-2.0", "MIT"]), "same-licences", "MIT OR Apache-2.0", True),
        (case("GPL-3.0-or-later", ["GPL-3.0-only"]), "same-licences", "GPL-3.0-or-later", True),
        (
            case("Apache-2.0 AND CNRI-Python", ["Apache-2.0"]),
            "expression-covers-texts",
            "Apache-2.0 AND CNRI-Python",
            True,
        ),
        (case("MIT OR Apache-2.0", ["MIT"], bundled="ISC"), "texts-add-licences", "(MIT OR Apache-2.0) AND ISC", False),
        (case("PSF-2.0", ["0BSD"], 0.05), "texts-add-licences", "PSF-2.0 AND 0BSD", False),
        (case("MIT", ["GPL-3.0-only"]), "unresolved", None, False),
        (case(None, [], 0.0), "unresolved", None, False),
    ],
)
def test_a_disagreement_is_decided_by_the_rule_for_it(
    disputed: Case, rule: str, expression: str | None, sure: bool
) -> None:
    conclusion = arbitrate(disputed)
    assert (conclusion.rule, conclusion.expression, conclusion.sure) == (rule, expression, sure)
    assert conclusion.reason


# --- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "verdict", "licence"),
    [
        ("MIT", "allowed", "MIT"),
        ("MIT OR GPL-3.0-only", "allowed", "MIT"),
        ("MIT AND GPL-3.0-only", "forbidden", "GPL-3.0-only"),
        ("MPL-2.0 AND (Apache-2.0 OR GPL-3.0-only)", "needs_review", "MPL-2.0"),
        ("GPL-3.0-only WITH GCC-exception-3.1", "needs_review", "GPL-3.0-only WITH GCC-exception-3.1"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "forbidden", "GPL-2.0-only"),
        ("LicenseRef-Ours", "needs_review", "unknown"),
    ],
)
def test_the_policy_names_the_line_that_decided(expression: str, verdict: str, licence: str) -> None:
    concluded = arbitrate(case(expression, [], 0.0))
    decision = check_policy(PolicyCheck("some", concluded, load_policy(POLICY)))
    assert decision.verdict == verdict
    assert licence in POLICY.read_text(encoding="utf-8").splitlines()[decision.line - 1]


def test_a_licence_seen_in_a_text_only_is_never_forbidden_without_a_person() -> None:
    concluded = arbitrate(case("MIT", ["MIT", "GPL-3.0-only"]))
    decision = check_policy(PolicyCheck("some", concluded, load_policy(POLICY)))
    assert decision.verdict == "needs_review"
    assert "a person decides" in decision.reason


def test_what_could_not_be_resolved_goes_to_a_person() -> None:
    decision = check_policy(PolicyCheck("some", arbitrate(case("MIT", ["GPL-3.0-only"])), load_policy(POLICY)))
    assert decision.verdict == "needs_review"


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("allowed:\n  - MIT\nforbiden:\n  - ISC\n", 3, "forbiden"),
        ("allowed: MIT\n", 1, "not a list"),
        ("allowed:\n  - MIT\n  - The MIT License\n", 3, "The MIT License"),
        ("allowed:\n  - MIT OR ISC\n", 2, "MIT OR ISC"),
        ("allowed:\n  - MIT\nforbidden:\n  - mit\n", 4, "already allowed in line 2"),
        ("unknown: maybe\n", 1, "maybe"),
        ("allowed: [MIT\n", 2, "not YAML"),
        ("- MIT\n", 1, "not a mapping"),
        ("", 1, "not a mapping"),
    ],
)
def test_a_bad_policy_is_refused_with_file_line_and_what_is_allowed(
    tmp_path: Path, content: str, line: int, says: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        load_policy(file)
    assert str(refused.value).startswith(f"{file}:{line}: ")
    assert says in str(refused.value)
    assert "allowed here" in str(refused.value)


def test_a_missing_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "none.yaml")
