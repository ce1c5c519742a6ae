"""The report in Markdown: a table, and under it the evidence of each decision."""

from .outcome import Outcome, Review


def render_markdown(review: Review, replayed: str) -> str:
    outcomes = review.attention_first()
    forbidden = sum(not outcome.allowed for outcome in outcomes)
    lines = [
        "# Licence review",
        "",
        f"{len(outcomes)} packages in `{review.site}`, {forbidden} forbidden. Finished {review.finished_at}.",
        "",
        f"Policy `{review.policy.file}` (sha256 `{review.policy.sha256[:16]}…`), run `{review.run_id}`. {replayed} "
        + _plain(review.arbiters()),
        "",
        "| Package | Version | Licence | Verdict | Decided by | Conclusion |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_table_row(outcome) for outcome in outcomes),
        "",
        "## Evidence",
    ]
    for outcome in outcomes:
        lines += ["", *_evidence(outcome)]
    return "\n".join(lines) + "\n"


def _table_row(outcome: Outcome) -> str:
    package, conclusion = outcome.package, outcome.conclusion
    verdict = "allowed" if outcome.allowed else "**forbidden**"
    named = f"{_plain(package.name)} | {_plain(package.version)} | {conclusion.expression or 'unresolved'}"
    return f"| {named} | {verdict} | {_plain(outcome.decided_by)} | {conclusion.rule} |"


def _evidence(outcome: Outcome) -> list[str]:
    package, declared, found, decision = outcome.package, outcome.declared, outcome.found, outcome.decision
    declares = declared.expression or " or ".join(declared.candidates) or "unknown"
    contains = ", ".join([*found.own, *(f"{licence} (bundled)" for licence in found.bundled)]) or "unknown"
    lines = [
        f"### {package.name} {package.version}: {'allowed' if outcome.allowed else 'forbidden'}",
        "",
        *([f"- Problem: {_plain(package.problem)}"] if package.problem else []),
        f"- `metadata_classifier`: **{declares}**, from {declared.source}: {_plain(declared.value) or '-'}"
        + (f" ({_plain(declared.note)})" if declared.note else ""),
        f"- `text_classifier`: **{contains}**; {found.read_share:.0%} of the package's own licence files recognised",
        f"- Conclusion: **{outcome.conclusion.expression or 'unresolved'}** by {_plain(outcome.conclusion.decider)}. "
        + _plain(outcome.conclusion.reason),
        f"- `policy_check`: {decision.verdict}, line {decision.line}. {decision.reason}",
        *(f"  - {weighed}" for weighed in decision.weighed),
    ]
    if outcome.answer:
        comment = f": {_plain(outcome.answer.comment)}" if outcome.answer.comment else ""
        lines.append(f"- Review: {outcome.answer.choice}, {_plain(outcome.decided_by)}{comment}")
    return [*lines, "", "<details><summary>Documents</summary>", "", *_documents(outcome), "", "</details>"]


def _documents(outcome: Outcome) -> list[str]:
    read: dict[str, list[str]] = {}
    for finding in outcome.found.findings:
        label = f"{finding.licence} ({finding.how})" if finding.licence else finding.how
        read.setdefault(finding.path, []).append(label)
    lines = ["| Document | Kind | Found | Bytes | SHA-256 |", "| --- | --- | --- | ---: | --- |"]
    for document in outcome.package.documents:
        matched = ", ".join(read.get(document.path, ["-"]))
        size, digest = document.size_bytes, document.sha256
        lines.append(f"| {_plain(document.path)} | {document.kind} | {matched} | {size} | `{digest}` |")
    return lines


def _plain(text: str) -> str:
    """Text from a package, so that it cannot change the page around it."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "|`*_[]" else char for char in flat)
