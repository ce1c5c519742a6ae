"""`python -m benchmarks.routing_quality`: does the work reach whom it should? On public data, beside plain baselines.

Trains on the training split, calibrates on the validation split, reports on the test split. `--shuffled SEED` splits
all data anew: a figure that was tuned on the test split would fall. Writes docs/generated/routing-quality.md, .png and
.html (not when shuffled, nor with `--print`). Exit code 3 where the data is not there.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: each experiment has one core

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks import chart, routing_data
from benchmarks.environment import machine
from benchmarks.routing_page import page
from cadenza.agents.card import Card, Skill
from cadenza.routing.calibration import calibration_error
from cadenza.routing.classifier import Example, SkillClassifier, TrainingOptions
from cadenza.routing.difficulty import GainPredictor, average_recovered, calls_needed, recovered
from cadenza.routing.need import Need
from cadenza.routing.semantic import SemanticScorer

SEED = 1
NAME = "routing-quality"
TARGETS = {"CLINC150": 0.94, "CLINC150, joint": 0.89, "Banking77": 0.93, "MMLU": 0.62, "GSM8K": 0.58}
PRICES = {"weak": 0.24, "strong": 24.7}  # US dollars a million tokens, as the RouteLLM paper (section 5) has them
PARTS = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Classified:
    """What a classifier reaches on the test split; shares from 0 to 1."""

    split: str
    accuracy: float
    baseline: float
    calibration: float
    joint: float | None
    recognised: float | None
    answered: float
    text_ms: float


@dataclass(frozen=True)
class Gained:
    """What a predictor of difficulty reaches over five folds."""

    split: str
    apgr: float
    baseline: float
    needed: tuple[float, ...]
    weak: float
    strong: float
    curve: tuple[float, ...]


def classified(data: str, shuffled: int | None) -> Classified:
    """Train on one part, report on another."""
    split = routing_data.clinc150() if data == "CLINC150" else routing_data.banking77()
    split = split if shuffled is None else split.shuffled(shuffled)
    outside = sum(not each.skill for each in split.test) / len(split.test)
    options = TrainingOptions(out_of_scope_share=outside or 0.1, seed=SEED)
    model = SkillClassifier.trained(split.train, split.validation, options)
    guesses = model.guess([each.text for each in split.test])
    started = time.thread_time()
    for each in split.test[:200]:
        model.guess([each.text])
    text_ms = (time.thread_time() - started) / 200 * 1000
    inside = np.array([bool(each.skill) for each in split.test])
    right = np.array([guess.skill == each.skill for guess, each in zip(guesses, split.test, strict=True)])
    abstains = np.array([guess.abstains for guess in guesses])
    confidence = np.array([guess.odds[0][1] for guess in guesses])
    return Classified(
        split.name,
        float(right[inside].mean()),
        plain_machine(split.train, [each for each in split.test if each.skill]),
        calibration_error(confidence[inside], right[inside]),
        float(np.where(inside, right & ~abstains, abstains).mean()) if outside else None,
        float(abstains[~inside].mean()) if outside else None,
        float((~abstains[inside]).mean()),
        text_ms,
    )


def plain_machine(train: Sequence[Example], test: Sequence[Example]) -> float:
    """The accuracy of a linear support vector machine on TF-IDF of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    train = [each for each in train if each.skill]
    reader: Any = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    rows = reader.fit_transform([each.text for each in train])
    machine_: Any = LinearSVC(random_state=SEED).fit(rows, [each.skill for each in train])
    found = machine_.predict(reader.transform([each.text for each in test]))
    return float(np.mean([skill == each.skill for skill, each in zip(found, test, strict=True)]))


def gained(data: str, seed: int, by_subject: bool) -> Gained:
    """Predict every question by what was learned from the other four folds."""
    recorded = routing_data.gsm8k() if data == "GSM8K" else routing_data.mmlu()
    folds = recorded.folds(seed, by_subject=by_subject)
    weak, strong = np.array(recorded.weak), np.array(recorded.strong)
    ours, plain = np.zeros(len(folds)), np.zeros(len(folds))
    for number in range(5):
        train = [place for place, fold in enumerate(folds) if fold != number]
        test = [place for place, fold in enumerate(folds) if fold == number]
        texts, unseen = [recorded.texts[place] for place in train], [recorded.texts[place] for place in test]
        ours[test] = GainPredictor.trained(texts, weak[train], strong[train]).gain(unseen)
        plain[test] = plain_regression(texts, strong[train] > weak[train], unseen)
    curve = recovered(ours, weak, strong)
    quality = weak.mean() + curve * (strong.mean() - weak.mean())
    return Gained(
        routing_data.folds_hash(recorded, folds),
        average_recovered(ours, weak, strong),
        average_recovered(plain, weak, strong),
        tuple(calls_needed(ours, weak, strong, part) for part in PARTS),
        float(weak.mean()),
        float(strong.mean()),
        tuple(float(quality[round(share / 100 * (len(quality) - 1))]) for share in range(101)),
    )


def plain_regression(texts: Sequence[str], needed: Any, unseen: Sequence[str]) -> Any:
    """The probability that only the strong model is right, by logistic regression on TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    reader: Any = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model: Any = LogisticRegression(max_iter=300).fit(reader.fit_transform(texts), needed)
    return model.predict_proba(reader.transform(unseen))[:, 1]


@dataclass(frozen=True)
class Placed:
    card: Card


def timed(agents: int, requests: int = 400) -> tuple[float, float, float]:
    """Milliseconds to embed a new request and score all agents: median, 99th percentile, median of CPU time."""
    split = routing_data.clinc150()
    draw = random.Random(SEED)
    fleet = [
        Placed(Card(f"agent_{number}", skills=(Skill(f"{each.skill}_{number}", each.text),)))
        for number, each in enumerate(draw.choices(split.train, k=agents))
    ]
    scorer = SemanticScorer()
    scorer.score(Need(), "the first request makes the index", fleet, draw, 0)
    wall: list[float] = []
    work: list[float] = []
    for each in split.test[:requests]:
        before, started = time.thread_time(), time.perf_counter()
        scorer.score(Need(), each.text, [*fleet], draw, 0)
        wall.append((time.perf_counter() - started) * 1000)
        work.append((time.thread_time() - before) * 1000)
    return statistics.median(wall), statistics.quantiles(wall, n=100)[98], statistics.median(work)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing_quality", description=__doc__)
    parser.add_argument("--shuffled", type=int, metavar="SEED", help="split all data anew, and write nothing")
    parser.add_argument("--print", action="store_true", help="only print, and write nothing")
    parser.add_argument("--subjects", action="store_true", help="MMLU with whole subjects held out, too")
    asked = parser.parse_args()
    if not routing_data.there():
        print(f"No data in {routing_data.FOLDER}: set CADENZA_DATA to the folder of clinc150, banking77 and routellm.")
        return 3
    started = time.monotonic()
    seed = SEED if asked.shuffled is None else asked.shuffled
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs: dict[str, Future[Any]] = {
            "CLINC150": pool.submit(classified, "CLINC150", asked.shuffled),
            "MMLU": pool.submit(gained, "MMLU", seed, False),
            "Banking77": pool.submit(classified, "Banking77", asked.shuffled),
            "GSM8K": pool.submit(gained, "GSM8K", seed, False),
        }
        if asked.subjects:
            jobs["MMLU, subjects unseen"] = pool.submit(gained, "MMLU", seed, True)
        found = {name: job.result() for name, job in jobs.items()}
    times = {agents: timed(agents) for agents in (500, 10_000)}
    text = report(found, times, asked.shuffled)
    print(text)
    print(f"{time.monotonic() - started:.0f} s on {machine()}")
    if asked.shuffled is None and not asked.print:
        plot(found)
        (chart.DOCS / "generated" / f"{NAME}.html").write_text(page(curves(found)), "utf-8")
        chart.publish(
            NAME, f"<!-- Made by `python -m benchmarks.routing_quality`; do not edit. -->\n\n{text}", f"{NAME}.md"
        )
    return 0


def report(found: dict[str, Any], times: dict[int, tuple[float, float, float]], shuffled: int | None) -> str:
    """All tables."""
    split = "as published" if shuffled is None else f"all data shuffled with seed {shuffled}"
    clinc, banking = found["CLINC150"], found["Banking77"]
    rows = [
        ["CLINC150, in scope", percent(clinc.accuracy), "≥ 94 %", percent(clinc.baseline), clinc.split],
        ["CLINC150, with out of scope", percent(clinc.joint), "≥ 89 %", "", clinc.split],
        ["Banking77", percent(banking.accuracy), "≥ 93 %", percent(banking.baseline), banking.split],
    ]
    text = f"**Which skill a text asks for** (split: {split}; training seed {SEED}).\n\n"
    text += chart.table(["accuracy on test", "Cadenza", "target", "TF-IDF, linear SVM", "split"], rows)
    text += "\n**Confidence**, and what is done with requests that fit no skill.\n\n"
    text += chart.table(
        ["", "calibration error", "in scope, answered", "out of scope, recognised", "CPU ms a text"],
        [
            [
                name,
                f"{each.calibration:.3f}",
                percent(each.answered),
                "" if each.recognised is None else percent(each.recognised),
                f"{each.text_ms:.1f}",
            ]
            for name, each in (("CLINC150", clinc), ("Banking77", banking))
        ],
    )
    seed = SEED if shuffled is None else shuffled
    text += f"\n**Is the strong model needed?** GPT-4 or Mixtral 8x7B, recorded; five folds, seed {seed}.\n\n"
    text += chart.table(
        [
            "",
            "APGR",
            "target",
            "TF-IDF, logistic regression",
            *(f"calls for {part:.0%} of the gap" for part in PARTS),
            "folds",
        ],
        [
            [
                name,
                f"{each.apgr:.3f}",
                {"MMLU": "≥ 0.62", "GSM8K": "≥ 0.58"}.get(name, ""),
                f"{each.baseline:.3f}",
                *map(percent, each.needed),
                each.split,
            ]
            for name, each in found.items()
            if isinstance(each, Gained)
        ],
    )
    text += "\n**Semantic scoring**: embedding a request that is new, and scoring every agent.\n\n"
    text += chart.table(
        ["agents", "median ms", "target", "99th percentile ms", "median CPU ms"],
        [
            [f"{agents:,}", f"{wall:.2f}", "< 1" if agents == 500 else "< 10", f"{tail:.2f}", f"{work:.2f}"]
            for agents, (wall, tail, work) in times.items()
        ],
    )
    return text


def percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def curves(found: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """By data set: the cost of a call relative to always the strong model, and the quality, at each share of calls."""
    relative = PRICES["weak"] / PRICES["strong"]
    cost = [share / 100 + (1 - share / 100) * relative for share in range(101)]
    return {
        name: {
            "strong calls": [share / 100 for share in range(101)],
            "cost": cost,
            "routed": [*each.curve],
            "by chance": [each.weak + share / 100 * (each.strong - each.weak) for share in range(101)],
        }
        for name, each in found.items()
        if isinstance(each, Gained)
    }


def plot(found: dict[str, Any]) -> None:
    lines = curves(found)
    made, axes = chart.figure(len(lines))
    for axis, (name, columns) in zip(axes, lines.items(), strict=True):
        axis.plot(columns["cost"], columns["by chance"], color=chart.GREY, linestyle="--", label="by chance")
        axis.plot(columns["cost"], columns["routed"], color=chart.COLOURS["ours"], linewidth=2, label="Cadenza")
        axis.axhline(columns["routed"][-1], color=chart.COLOURS["plain"], linewidth=1, label="always strong")
        axis.set_title(name)
        axis.set_xlabel("cost (1: always strong)")
        axis.set_ylabel("right answers")
    axes[0].legend(fontsize=8, loc="lower right")
    chart.save(made, NAME)


if __name__ == "__main__":
    sys.exit(main())
