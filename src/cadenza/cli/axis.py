"""The time axis of a timeline: stretches in which nothing worked (a person was awaited, a timer ran) are shortened."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from cadenza.cli.history import History, Item

GAP_SHARE_MIN = 1.0
"""A gap is shortened if it is longer than this share of all the time in which something worked, and a second."""
GAP_MIN_US = 1_000_000
GAP_SHOWN = 0.06
WAITING_KINDS = ("ask", "timer", "receive", "message", "child", "cancel")


@dataclass(frozen=True)
class Gap:
    """A shortened stretch: ``at`` is where it begins on the axis (0 to 1), ``width`` what it takes there."""

    at: float
    width: float
    microseconds: int


class Axis:
    """Maps times (microseconds since 1970) to 0 to 1, never backwards."""

    def __init__(self, first: int, last: int, busy: Iterable[tuple[int, int]]) -> None:
        self.first, self.last = first, max(last, first + 1)
        spans = _merged([(max(first, begin), min(self.last, max(begin, end))) for begin, end in busy])
        worked = sum(end - begin for begin, end in spans) or 1
        edges, lengths, idle = self._pieces(spans, worked)
        shortened = sum(idle)
        share = min(GAP_SHOWN, 0.4 / shortened) if shortened else 0.0
        rest = sum(length for length, is_idle in zip(lengths, idle, strict=True) if not is_idle) or 1
        widths = [
            share if is_idle else (1.0 - shortened * share) * length / rest
            for length, is_idle in zip(lengths, idle, strict=True)
        ]
        self._edges = edges
        self._places = [0.0]
        for width in widths:
            self._places.append(self._places[-1] + width)
        self.gaps = [
            Gap(self._places[index], widths[index], lengths[index]) for index, is_idle in enumerate(idle) if is_idle
        ]

    def _pieces(self, spans: list[tuple[int, int]], worked: int) -> tuple[list[int], list[int], list[bool]]:
        """Edges in time, and for the pieces between them the length and whether it is to be shortened."""
        edges, idle = [self.first], list[bool]()
        ends = [self.first, *(end for _, end in spans)]
        begins = [*(begin for begin, _ in spans), self.last]
        for end, begin in zip(ends, begins, strict=True):
            if begin - end > max(worked * GAP_SHARE_MIN, GAP_MIN_US):
                if end > edges[-1]:
                    edges.append(end)
                    idle.append(False)
                edges.append(begin)
                idle.append(True)
        if self.last > edges[-1]:
            edges.append(self.last)
            idle.append(False)
        lengths = [after - before for before, after in pairwise(edges)]
        if all(idle):
            idle = [False] * len(idle)
        return edges, lengths, idle

    def place(self, time: int) -> float:
        """Where a time is, 0 to 1."""
        time = min(max(time, self.first), self.last)
        index = min(bisect_right(self._edges, time), len(self._edges) - 1) - 1
        begin, end = self._edges[index], self._edges[index + 1]
        left, right = self._places[index], self._places[index + 1]
        return left + (right - left) * (time - begin) / (end - begin)

    def time(self, place: float) -> int:
        """What time is shown at a place: the inverse of ``place``."""
        index = min(max(bisect_right(self._places, place) - 1, 0), len(self._edges) - 2)
        left, right = self._places[index], self._places[index + 1]
        begin, end = self._edges[index], self._edges[index + 1]
        return round(begin + (end - begin) * (place - left) / ((right - left) or 1.0))


def axis_of(history: History, items: list[Item]) -> Axis:
    """The axis of a run, on which these items are shown."""
    times = [time for item in items for time in (item.began, item.ended) if time]
    first = min([history.began, *times])
    last = max([history.ended or history.last_at, *times])
    busy = [(item.began, item.ended) for item in items if item.kind not in WAITING_KINDS and item.began and item.ended]
    return Axis(first, last, busy)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((begin, end))
    return merged
