"""The reports: one review as HTML, Markdown and JSON, with the evidence of every decision."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cadenza import step

from .agents import PROCESS
from .markdown import render_markdown
from .outcome import Outcome, Review, Row, Summary
from .page import render_page


@step
def write_reports(review: Review) -> Summary:
    """Write the three files. Idempotent: written beside and renamed, the same review gives the same files."""
    folder = Path(review.out)
    folder.mkdir(parents=True, exist_ok=True)
    replayed = replay_sentence(review, PROCESS)
    files = {
        "report.html": render_page(review, replayed),
        "report.md": render_markdown(review, replayed),
        "report.json": json.dumps(as_json(review), indent=2, ensure_ascii=False) + "\n",
    }
    for name, content in files.items():
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(content, encoding="utf-8")
        draft.replace(folder / name)
    return summarise(review, replayed, [str(folder / name) for name in files])


def replay_sentence(review: Review, process: str) -> str:
    """How much of the work was handed over from an earlier process, in one sentence."""
    origins, count = review.origins(process), len(review.outcomes)
    if not origins["replayed"] and not origins["continued"]:
        return "All packages were reviewed by this process; none was replayed."
    parts = [f"{origins['replayed']} of {count} packages were finished by an earlier process and replayed"]
    if origins["continued"]:
        parts.append(f"{origins['continued']} begun there and finished here")
    if origins["new"]:
        parts.append(f"{origins['new']} reviewed here")
    return ", ".join(parts) + "."


def as_json(review: Review) -> dict[str, Any]:
    """The whole review as plain data; `packages` holds each decision with its evidence."""
    return {
        "run_id": review.run_id,
        "environment": review.site,
        "finished_at": review.finished_at,
        "policy": {"file": review.policy.file, "sha256": review.policy.sha256},
        "process": PROCESS,
        "arbiter": review.model or "rules",
        "origins": dict(review.origins(PROCESS)),
        "packages": [_package_json(outcome) for outcome in review.outcomes],
    }


def _package_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.package.name,
        "version": outcome.package.version,
        "licence": outcome.conclusion.expression,
        "allowed": outcome.allowed,
        "decided_by": outcome.decided_by,
        "origin": outcome.origin(PROCESS),
        "evidence": {
            "documents": [asdict(document) for document in outcome.package.documents],
            "problem": outcome.package.problem,
            "metadata_classifier": asdict(outcome.declared),
            "text_classifier": asdict(outcome.found),
            "conclusion": asdict(outcome.conclusion),
            "policy_check": asdict(outcome.decision),
            "answer": asdict(outcome.answer) if outcome.answer else None,
        },
    }


def summarise(review: Review, replayed: str, files: list[str]) -> Summary:
    return Summary(
        packages=len(review.outcomes),
        documents=sum(len(outcome.package.documents) for outcome in review.outcomes),
        forbidden=sum(not outcome.allowed for outcome in review.outcomes),
        asked=sum(outcome.answer is not None for outcome in review.outcomes),
        origins=dict(review.origins(PROCESS)),
        replay=replayed,
        arbiters=review.arbiters(),
        files=files,
        attention=[_row(each) for each in review.attention_first() if each.answer is not None or not each.allowed],
        licences=dict(review.licences().most_common()),
    )


def _row(outcome: Outcome) -> Row:
    name = f"{outcome.package.name} {outcome.package.version}"
    licence = outcome.conclusion.expression or "unresolved"
    return Row(name, licence, outcome.allowed, outcome.decided_by)
