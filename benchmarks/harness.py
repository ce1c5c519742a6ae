"""Interleaved rounds over side processes: in every round each system is measured once, in rotating order.

A noisy neighbour or a slow minute of the disk so hits all systems alike; what is compared is the ratio of two values
of the same round.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environment import PROJECT

BYTECODE = PROJECT / "build" / "bytecode"
IMPORT_PROBE = """
import resource, sys, time
start = time.perf_counter()
__import__(sys.argv[1])
took = time.perf_counter() - start
try:  # ru_maxrss starts at the parent's peak on Linux; VmHWM is this process's own
    peak_kb = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
except OSError:
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
print(took, peak_kb / 1024)
"""


class SideFailed(Exception):
    """A side process did not start, ended, or answered with an error: `side` and `reason`."""

    def __init__(self, side: str, reason: str) -> None:
        self.side, self.reason = side, reason
        super().__init__(f"{side}: {reason}")


@dataclass(frozen=True)
class Key:
    """Whose values these are. `kind` is "cadenza", "limit" or "peer"; `name` is what the table shows."""

    kind: str
    name: str
    guarantee: str = ""


@dataclass
class Results:
    """values[workload][key] holds one value a round; `failures` says what could not be measured."""

    values: dict[str, dict[Key, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    about: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


class Side:
    """A running side process (see `benchmarks.side` for the protocol)."""

    def __init__(self, kind: str, command: Sequence[str], timeout_s: float = 120.0) -> None:
        self.kind, self.name, self.timeout_s = kind, command[-1], timeout_s
        self.process = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.complaints: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        hello = self._answer()
        self.about: dict[str, str] = hello["about"]
        self.series = [(i, s["workload"], Key(kind, s["name"], s["guarantee"])) for i, s in enumerate(hello["series"])]

    def measure(self, series: int, folder: Path) -> float:
        """One value in the unit of the workload. Raises SideFailed."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"series": series, "folder": str(folder)}) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise SideFailed(self.name, f"has ended ({error})") from error
        answer = self._answer()
        if "error" in answer:
            raise SideFailed(self.name, answer["error"])
        return float(answer["value"])

    def close(self) -> None:
        """End the process and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        timer = threading.Timer(self.timeout_s, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            time.sleep(0.1)  # lets the last complaint arrive
            last = next((c for c in reversed(self.complaints) if c), "no message")
            raise SideFailed(self.name, f"ended or took over {self.timeout_s:.0f} s: {last}")
        return json.loads(line)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.complaints = [*self.complaints[-40:], line.rstrip()]


def run_rounds(
    workload: str, rounds: int, sides: Sequence[Side], folder: Path, results: Results, progress: Callable[[str], None]
) -> None:
    """Measure every series of one workload `rounds` times; a series that fails is left out from then on and noted."""
    contestants = [(side, index, key) for side in sides for index, named, key in side.series if named == workload]
    for round_number in range(rounds):
        shift = round_number % max(len(contestants), 1)
        for side, index, key in list(contestants[shift:] + contestants[:shift]):
            place = folder / f"{workload}-{round_number}-{index}-{os.getpid()}"
            place.mkdir(parents=True)
            try:
                os.sync()  # nobody pays for what the one before left in the page cache
                results.values[workload][key].append(side.measure(index, place))
            except SideFailed as failure:
                results.failures.append(f"{workload}, {key.name}: {failure.reason}")
                contestants.remove((side, index, key))
            finally:
                shutil.rmtree(place, ignore_errors=True)
            progress(f"{workload} round {round_number + 1}/{rounds}: {key.name}")


def run_imports(
    rounds: int, modules: Sequence[tuple[Key, str, str]], results: Results, progress: Callable[[str], None]
) -> None:
    """Import (key, interpreter, module) in a fresh process each time: import-time in s, import-memory in MB."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(BYTECODE)
    for round_number in range(rounds + 1):
        for key, python, module in modules:
            command = [python, "-c", IMPORT_PROBE, module]
            probe = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
            if probe.returncode != 0:
                if round_number == 0:
                    results.failures.append(f"import {module}: {probe.stderr.strip().splitlines()[-1]}")
                continue
            seconds, megabytes = map(float, probe.stdout.split())
            if round_number > 0:  # the first one writes the byte-code, as an installer does
                results.values["import-time"][key].append(seconds)
                results.values["import-memory"][key].append(megabytes)
            progress(f"import round {round_number}/{rounds}: {key.name}")


def run_experiments(
    workload: str, rounds: int, makers: Sequence[tuple[Key, str, str]], folder: Path, results: Results
) -> None:
    """Have each (key, interpreter, module) make an experiment, `rounds` times; it prints a value for each measure."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(BYTECODE)
    for round_number in range(rounds):
        for key, python, module in makers:
            place = folder / f"{workload}-{round_number}-{module}"
            place.mkdir(parents=True)
            command = [python, "-m", module, workload, str(place)]
            made = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
            shutil.rmtree(place, ignore_errors=True)
            if made.returncode != 0:
                last = (made.stderr.strip().splitlines() or ["no message"])[-1]
                results.failures.append(f"{workload}, {key.name}: {last}")
                continue
            for measure, value in json.loads(made.stdout.splitlines()[-1]).items():
                results.values[measure][key].append(value)


def python_side(kind: str, module: str, python: str = sys.executable) -> Side:
    """Start `python -m module` as a side process."""
    return Side(kind, [python, "-m", module])
