"""Deterministic step paths: the identity of everything that a run does (ADR 0001).

    path    = {branch "/"} leaf                 charge#1    b2/b1/fetch#3    b1/@timer#2    charge#1~undo
    branch  = "b" number                        the number-th task created in its parent branch
    leaf    = name "#" number ["~undo"]         the number-th call of that name in that branch
    name    = label | "@" kind [":" label]      what the engine itself does starts with "@"

A task created in workflow code opens a branch; a call counts within its branch and name. Both are allocated
synchronously, at the call, so that they depend only on the code's own order and never on the arrival of outcomes.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from random import Random

GRAMMAR_VERSION = 1
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*\Z")
PATH = re.compile(r"(?:b[1-9]\d*/)*@?[A-Za-z_][A-Za-z0-9_.:\-]*#[1-9]\d*(?:~undo)?\Z")
UNDO = "~undo"


class Seed:
    """What the randomness of all branches of a run is made of; a fork changes it where it leaves its origin."""

    __slots__ = ("text",)

    def __init__(self, run_id: str, generation: int) -> None:
        self.become(run_id, generation)

    def become(self, run_id: str, generation: int) -> None:
        self.text = f"{run_id}:{generation}"


class Branch:
    """One task of workflow code: its prefix, and the counters from which paths are made."""

    __slots__ = ("_counts", "_drawn_from", "_forks", "_random", "prefix", "seed")

    def __init__(self, prefix: str, seed: Seed) -> None:
        self.prefix, self.seed = prefix, seed
        self._counts: dict[str, int] = {}
        self._forks = 0
        self._random: Random | None = None
        self._drawn_from = ""

    def leaf(self, name: str) -> str:
        """The path of the next call of ``name`` here."""
        count = self._counts.get(name, 0) + 1
        self._counts[name] = count
        return f"{self.prefix}{name}#{count}"

    def fork(self) -> Branch:
        """The branch of the next task created here."""
        self._forks += 1
        return Branch(f"{self.prefix}b{self._forks}/", self.seed)

    @property
    def random(self) -> Random:
        """Randomness of this branch: seeded by run, generation and branch, so that replay draws the same."""
        if self._random is None or self._drawn_from != self.seed.text:
            self._drawn_from = self.seed.text
            self._random = Random(f"{self._drawn_from}:{self.prefix}")
        return self._random

    @property
    def is_root(self) -> bool:
        return not self.prefix


current_branch: ContextVar[Branch] = ContextVar("cadenza_branch")


def is_label(name: str) -> bool:
    """Whether ``name`` may name a step, an agent, a message or a workflow in a path."""
    return LABEL.match(name) is not None


def is_path(text: str) -> bool:
    """Whether ``text`` follows the grammar."""
    return PATH.match(text) is not None


def idempotency_key(run_id: str, generation: int, path: str) -> str:
    """The key under which a step may be repeated (ADR 0003): ``run_id:generation:path``."""
    return f"{run_id}:{generation}:{path}"
