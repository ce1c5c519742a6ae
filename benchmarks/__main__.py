"""`python -m benchmarks`: measure Cadenza, the limit and the peers side by side, print the tables, write results.json.

Exit code: 0 when Cadenza and the limit were measured (targets met or not), 1 when they could not be, 2 for wrong
options.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import environment, table, targets
from benchmarks.harness import Key, Results, Side, SideFailed, python_side, run_experiments, run_imports, run_rounds
from benchmarks.side import NONE, ON_DISK

WORKLOADS = {"W1": 7, "W1p": 5, "W2": 5, "W3": 3, "cpu-chain": 5, "cpu-gather": 5, "import": 7}
WORKLOADS |= {"W4": 2, "W5": 1, "W6": 5, "W7": 1, "W8": 3}  # rounds of a full run
HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run what was asked for; see the module's docstring."""
    asked = options()
    started = time.monotonic()
    folder = Path(asked.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kind = environment.filesystem(folder)
    print(f"{environment.machine()}; databases on {kind} in {folder}")
    if environment.in_memory(kind):
        print(
            "This filesystem lives in memory, so that durable figures mean nothing here: give --folder on a real disk."
        )
    if environment.crowded():
        print("This machine is busy with other work: read the ratios with care, or come back when it is quiet.")
    results = Results()
    sides, peers = start_sides(results)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    try:
        for workload in asked.only:
            rounds = asked.rounds or (2 if asked.quick else WORKLOADS[workload])
            if workload == "import":
                run_imports(rounds, imports(peers), results, progress)
            elif workload in EXPERIMENTS:
                run_experiments(workload, 1 if asked.quick else rounds, experiments(workload, peers), scratch, results)
            else:
                run_rounds(workload, rounds, sides, scratch, results, progress)
    finally:
        for side in sides:
            side.close()
        shutil.rmtree(scratch, ignore_errors=True)
        progress("")
    report(results)
    where = HERE / "results.json" if full(asked) else folder / "results.json"
    where.write_text(json.dumps(targets.as_json(results), indent=2, ensure_ascii=False) + "\n")
    print(f"Written to {where} ({'all' if full(asked) else 'part of'} workloads); {time.monotonic() - started:.0f} s.")
    for module in GENERATED if full(asked) else ():
        subprocess.run([sys.executable, "-m", module], check=True)
    measured = {key.kind for series in results.values.values() for key in series}
    return 0 if {"cadenza", "limit"} <= measured else 1


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Cadenza beside the limit of the disk and its peers."
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="rounds of every workload (default: 3 to 7, by workload)"
    )
    parser.add_argument("--only", default=",".join(WORKLOADS), metavar="W1,W2", help=f"some of: {','.join(WORKLOADS)}")
    parser.add_argument("--quick", action="store_true", help="two rounds of everything: a look, not a measurement")
    default_folder = environment.PROJECT / "build" / "bench"
    parser.add_argument(
        "--folder", default=default_folder, help="where the databases go; a real disk (default: build/bench)"
    )
    asked = parser.parse_args()
    asked.only = [name.strip() for name in asked.only.split(",") if name.strip()]
    if unknown := [name for name in asked.only if name not in WORKLOADS]:
        parser.error(f"unknown workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    if asked.rounds is not None and asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    return asked


def full(asked: argparse.Namespace) -> bool:
    """Whether this run is worth keeping as benchmarks/results.json."""
    return asked.only == list(WORKLOADS) and not asked.quick and (asked.rounds is None or asked.rounds >= 5)


def start_sides(results: Results) -> tuple[list[Side], Path | None]:
    """Start every side that can be started; note the others. Also the peers' interpreter, if there is one."""
    sides: list[Side] = []
    peers: Path | None = None
    try:
        peers = environment.peers_python(lambda line: print(line, flush=True))
    except environment.PeersUnavailable as unavailable:
        results.failures.append(f"The peers are left out, their packages could not be installed: {unavailable.reason}")
        print(results.failures[-1])
    wanted = [
        ("cadenza", "benchmarks.cadenza_side", Path(sys.executable)),
        ("limit", "benchmarks.limit", Path(sys.executable)),
    ]
    if peers:
        wanted.append(("peer", "benchmarks.peers.langgraph_side", peers))
        wanted.append(("peer", "benchmarks.peers.dbos_side", peers))
    for kind, module, python in wanted:
        try:
            side = python_side(kind, module, str(python))
        except SideFailed as failure:
            results.failures.append(f"{module} did not start: {failure.reason}")
            continue
        sides.append(side)
        results.about |= side.about
    print(", ".join(f"{name} {version}" for name, version in results.about.items()))
    return sides, peers


# Commands that write pages of docs/generated; a complete run ends with them.
GENERATED = ("benchmarks.routing_learning", "benchmarks.routing_balancing", "benchmarks.routing_quality")
EXPERIMENTS = {
    "W8": "benchmarks.thinking",
    "W4": "benchmarks.lives",
    "W5": "benchmarks.installed",
    "W6": "benchmarks.lives",
    "W7": "benchmarks.lives",
}


def experiments(workload: str, peers: Path | None) -> list[tuple[Key, str, str]]:
    """Who makes an experiment of its own (whose values, interpreter, module), each in a fresh process."""
    found = [(Key("cadenza", "Cadenza"), sys.executable, EXPERIMENTS[workload])]
    if peers and workload == "W4":
        found.append((Key("peer", "LangGraph, SqliteSaver"), str(peers), "benchmarks.peers.langgraph_growth"))
    if workload == "W8":
        found.append((Key("peer", "Pydantic AI", NONE), sys.executable, "benchmarks.thinking_plain"))
    if peers and workload == "W8":
        found.append(
            (Key("peer", "LangGraph, AsyncSqliteSaver", ON_DISK), str(peers), "benchmarks.peers.langgraph_agent")
        )
    return found


def imports(peers: Path | None) -> list[tuple[Key, str, str]]:
    """What is imported cold: Cadenza, the peer, and as the limit the one module that both must have."""
    found = [
        (Key("cadenza", "Cadenza"), sys.executable, "cadenza"),
        (Key("limit", "limit: asyncio alone"), sys.executable, "asyncio"),
    ]
    if peers:
        found.append((Key("peer", "LangGraph (langgraph.graph)"), str(peers), "langgraph.graph"))
    return found


def progress(line: str) -> None:
    """Where we are, on one line that overwrites itself; nothing when nobody is looking."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif line.endswith("Cadenza") or not line:
        print(line, file=sys.stderr, flush=True)


def report(results: Results) -> None:
    """Print everything that was found out."""
    table.print_results(results)
    table.print_verdicts(targets.verdicts(results))
    for failure in results.failures:
        print(f"Not measured: {failure}")


if __name__ == "__main__":
    sys.exit(main())
