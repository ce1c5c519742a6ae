"""Process agents with real programs: in several languages, ill-behaved in every way, and killed with Cadenza."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cadenza import (
    Context,
    Engine,
    EngineOptions,
    Live,
    PeerRefused,
    ProcessAgent,
    RunFailed,
    UnknownName,
    map_reduce,
    workflow,
)
from cadenza.errors import DefinitionError
from tests.acceptance.commands import until

PATIENCE_S = 30


class Text(BaseModel):
    text: str


class Count(BaseModel):
    words: int


@workflow
async def asking(ctx: Context, given: dict[str, Any]) -> Any:
    return await ctx.call(given["agent"], given["input"])


@workflow
async def asking_often(ctx: Context, given: dict[str, Any]) -> list[Any]:
    return [await ctx.call(given["agent"], each) for each in given["inputs"]]


@workflow
async def mapping(ctx: Context, given: dict[str, Any]) -> list[Any]:
    return await map_reduce(ctx, given["inputs"], given["agent"], limit=3)


def play(flow: Any, agent: ProcessAgent, observe: Callable[[Any], None] | None = None, **given: Any) -> Any:
    async def main() -> Any:
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine, asyncio.timeout(PATIENCE_S):
            if observe is not None:
                engine.observe(observe)
            return await (await engine.start(flow, {"agent": agent.name, **given})).result()

    return asyncio.run(main())


def failure(agent: ProcessAgent, input: Any = None) -> str:
    with pytest.raises(RunFailed) as failed:
        play(asking, agent, input=input)
    return str(failed.value)


def script(folder: Path, text: str, name: str = "agent.py") -> list[str]:
    (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return [sys.executable, str(folder / name)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


WORDS = """
    import json, sys
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"progress": "counting"}), flush=True)
        words = len(request["input"]["text"].split())
        print(json.dumps({"id": request["id"], "output": {"words": words}}), flush=True)
"""


# --- languages --------------------------------------------------------------------------------------------------------


def test_a_python_program_is_an_agent_and_its_progress_is_seen(tmp_path: Path) -> None:
    agent = ProcessAgent("words", script(tmp_path, WORDS), input=Text, output=Count, description="Counts words.")
    seen: list[Live] = []
    assert play(asking, agent, seen.append, input={"text": "a b c"}) == {"words": 3}
    assert any("counting" in str(each) for each in seen)
    assert agent.card.input_schema == Text.model_json_schema()
    assert agent.card.output_schema is not None
    assert agent.card.output_schema["properties"]["words"]["type"] == "integer"


def test_a_shell_script_is_an_agent(tmp_path: Path) -> None:
    (tmp_path / "agent.sh").write_text(
        'read -r request\nkey=${request#*\\"key\\": \\"}\nprintf \'{"output": "%s"}\\n\' "${key%%\\"*}"\n'
    )
    agent = ProcessAgent("shell", "sh agent.sh", folder=str(tmp_path), output=str)
    assert str(play(asking, agent, input=1)).endswith("shell#1"), "it is handed the idempotency key"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_a_node_program_is_an_agent(tmp_path: Path) -> None:
    (tmp_path / "agent.js").write_text(
        "require('readline').createInterface({input: process.stdin}).on('line', line => {\n"
        "  const request = JSON.parse(line);\n"
        "  console.log(JSON.stringify({id: request.id, output: request.input.map(x => 2 * x)}));\n"
        "});\n"
    )
    agent = ProcessAgent("node", ["node", "agent.js"], folder=str(tmp_path), output=list[int])
    assert play(asking, agent, input=[1, 2, 3]) == [2, 4, 6]


def test_a_pattern_takes_process_agents_and_a_warm_one_starts_no_more_processes_than_it_may(tmp_path: Path) -> None:
    text = """
        import json, os, sys
        for line in sys.stdin:
            request = json.loads(line)
            print(json.dumps({"id": request["id"], "output": os.getpid()}), flush=True)
    """
    agent = ProcessAgent("warm", script(tmp_path, text), output=int, warm=2)
    pids = set(play(mapping, agent, inputs=list(range(12))))
    assert 1 <= len(pids) <= 2
    assert not any(alive(pid) for pid in pids), "they ended with the event loop"
    cold = ProcessAgent("cold", script(tmp_path, text), output=int)
    assert len(set(play(mapping, cold, inputs=list(range(4))))) == 4


def test_a_warm_process_that_has_died_or_misbehaved_is_replaced(tmp_path: Path) -> None:
    text = """
        import json, os, sys
        for line in sys.stdin:
            request = json.loads(line)
            if request["input"] == "fail":
                print(json.dumps({"id": request["id"], "error": {"type": "Busy", "message": "later", "retry": True}}))
            else:
                print(json.dumps({"id": request["id"], "output": os.getpid()}))
            sys.stdout.flush()
            if request["input"] == "die":
                sys.exit(0)
    """
    agent = ProcessAgent("mortal", script(tmp_path, text), output=int, warm=1)
    first, second, third = play(asking_often, agent, inputs=["live", "die", "live"])
    assert first == second
    assert third != first


# --- every way to be ill-behaved --------------------------------------------------------------------------------------

MISBEHAVIOUR = {
    "deep": ("print('[' * 900)", ["which is not JSON"]),
    "garbage": ("print('Hello! I am an agent')", ["'Hello! I am an agent', which is not JSON", "goes to stderr"]),
    "no-object": ("print('[1, 2]')", ["'[1, 2]'", "has not one of progress, output, error"]),
    "two-words": ('print(\'{"output": 1, "error": 2}\')', ["has not one of progress, output, error"]),
    "early-exit": (
        "print('Traceback: no model', file=sys.stderr); sys.exit(3)",
        ["before it had replied, and ended with exit code 3.", "stderr:\n  Traceback: no model"],
    ),
    "half-a-line": (
        "print('{\"output\":', end='')",
        ["in the middle of a line (10 bytes)", "ended with exit code 0. Its stderr is empty."],
    ),
    "long-line": ("print('x' * 5000)", ["wrote a line of over 1,000 bytes", "line_bytes_max"]),
    "long-line-without-end": (
        "print('x' * 5000, end='', flush=True); time.sleep(1000)",
        ["a line of over 1,000 bytes"],
    ),
    "wrong-id": ('print(\'{"id": "7", "output": 1}\')', ["replied with the id '7' to the request '1'"]),
    "wrong-type": ('print(\'{"output": "seven"}\')', ["the result of", "valid integer", "'seven'"]),
    "declared": (
        'print(\'{"error": {"type": "NoMoney", "message": "the account is empty"}}\')',
        ["NoMoney: the account is empty"],
    ),
    "killed-by-itself": ("os.kill(os.getpid(), 9)", ["before it had replied, and was killed by SIGKILL"]),
    "closes-stdout": (
        "os.close(1); time.sleep(1000)",
        ["closed its standard output before it had replied, and is still running"],
    ),
}


@pytest.mark.parametrize("manner", sorted(MISBEHAVIOUR))
def test_each_misbehaviour_has_one_clear_message(manner: str, tmp_path: Path) -> None:
    code, expected = MISBEHAVIOUR[manner]
    command = script(tmp_path, f"import os, sys, time\nsys.stdin.readline()\n{code}\n")
    agent = ProcessAgent(f"bad-{manner}", command, output=int, line_bytes_max=1000, grace_s=0.2)
    message = failure(agent)
    for each in [*expected, f"bad-{manner}"]:
        assert each in message, message


def test_a_process_that_cannot_do_it_now_is_asked_again_with_the_same_key(tmp_path: Path) -> None:
    text = f"""
        import json, pathlib, sys
        request = json.loads(sys.stdin.readline())
        log = pathlib.Path({str(tmp_path / "log")!r})
        seen = log.read_text().split() if log.exists() else []
        log.write_text(" ".join([*seen, request["key"]]))
        if len(seen) < 2:
            print(json.dumps({{"error": {{"type": "Busy", "message": "later", "retry": 0.01}}}}))
        else:
            print(json.dumps({{"output": "done"}}))
    """
    assert play(asking, ProcessAgent("busy", script(tmp_path, text)), input=None) == "done"
    keys = (tmp_path / "log").read_text().split()
    assert len(keys) == 3
    assert len(set(keys)) == 1


STUBBORN = """
    import os, pathlib, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    sys.stdin.readline()
    pathlib.Path("pids.tmp").write_text(f"{os.getpid()} {grandchild.pid}")
    os.rename("pids.tmp", "pids")
    time.sleep(1000)
"""


def test_a_process_that_hangs_and_ignores_sigterm_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    agent = ProcessAgent(
        "stubborn", script(tmp_path, STUBBORN), folder=str(tmp_path), timeout_s=2.0, grace_s=0.1, retry=None
    )
    message = failure(agent)
    assert "StepTimeout: stubborn took longer than 2.0 s" in message
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(alive(pid) for pid in pids), f"{pids} are still there")


def test_a_process_may_clean_up_when_it_is_told_to_end(tmp_path: Path) -> None:
    text = """
        import pathlib, signal, sys, time
        def clean(*_):
            pathlib.Path("cleaned").touch()
            sys.exit(0)
        signal.signal(signal.SIGTERM, clean)
        sys.stdin.readline()
        time.sleep(1000)
    """
    agent = ProcessAgent("tidy", script(tmp_path, text), folder=str(tmp_path), timeout_s=2.0, grace_s=20, retry=None)
    assert "tidy took longer than 2.0 s" in failure(agent)
    assert (tmp_path / "cleaned").exists()


def test_cancelling_the_run_ends_the_process(tmp_path: Path) -> None:
    agent = ProcessAgent("cancelled", script(tmp_path, STUBBORN), folder=str(tmp_path), grace_s=0.1)

    async def main() -> None:
        async with Engine.open(":memory:") as engine, asyncio.timeout(PATIENCE_S):
            handle = await engine.start(asking, {"agent": agent.name, "input": None})
            while not (tmp_path / "pids").exists():
                await asyncio.sleep(0.01)
            await handle.cancel("enough")
            await handle.settled()

    asyncio.run(main())
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(alive(pid) for pid in pids), f"{pids} are still there")


@pytest.mark.sigkill
def test_kill_9_of_cadenza_takes_the_process_with_it_and_the_run_goes_on_with_the_same_key(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(
        textwrap.dedent("""
            import json, os, pathlib, sys, time
            request = json.loads(sys.stdin.readline())
            with open("log", "a") as log:
                log.write(f"{os.getpid()} {request['key']}\\n")
            while pathlib.Path("hang").exists():
                time.sleep(0.05)
            print(json.dumps({"output": request["input"] * 2}))
        """)
    )
    (tmp_path / "flow.py").write_text(
        textwrap.dedent(f"""
            import cadenza
            from cadenza import Context, ProcessAgent, step, workflow

            ProcessAgent("double", [{sys.executable!r}, "agent.py"], output=int)

            @step
            async def before(n: int) -> int:
                with open("before", "a") as log:
                    log.write("once")
                return n

            @workflow
            async def doubling(ctx: Context, n: int) -> int:
                return await ctx.call("double", await ctx.step(before, n))

            if __name__ == "__main__":
                print(cadenza.run(doubling, 21, id="d", store="kill.db"))
        """)
    )
    (tmp_path / "hang").touch()
    command = [sys.executable, "-W", "error", "flow.py"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        until((tmp_path / "log").exists, "the agent was never asked")
        until(lambda: (tmp_path / "log").read_text().endswith("\n"), "the agent wrote nothing")
        process.kill()
    (pid, key) = (tmp_path / "log").read_text().split()
    if shutil.which("setpriv"):
        until(lambda: not alive(int(pid)), "the process outlived Cadenza")
    (tmp_path / "hang").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.stdout, done.stderr) == ("42\n", "")
    assert [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()] == [key, key]
    assert (tmp_path / "before").read_text() == "once"


# --- secrets and definitions ------------------------------------------------------------------------------------------


def test_a_process_sees_only_the_secrets_that_it_is_given_and_no_error_repeats_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN_KEY", "s3cr3t-of-mine")
    monkeypatch.setenv("OTHER_KEY", "not-for-it")
    text = """
        import json, os, sys
        request = json.loads(sys.stdin.readline())
        if request["input"] == "tell":
            print(json.dumps({"output": [len(os.environ["GIVEN_KEY"]), "OTHER_KEY" in os.environ, os.environ["MODE"]]}))
        elif request["input"] == "repeat":
            print(json.dumps({"output": "my key is " + os.environ["GIVEN_KEY"]}))
        else:
            print("bad key " + os.environ["GIVEN_KEY"], file=sys.stderr)
            sys.exit(1)
    """
    agent = ProcessAgent("trusted", script(tmp_path, text), secrets=["GIVEN_KEY"], variables={"MODE": "fast"})
    assert play(asking, agent, input="tell") == [14, False, "fast"]
    assert play(asking, agent, input="repeat") == "my key is [secret]"
    message = failure(agent, "crash")
    assert "bad key [secret]" in message
    assert "s3cr3t" not in message
    monkeypatch.delenv("GIVEN_KEY")
    assert "the environment variable GIVEN_KEY is not set" in failure(agent, "tell")


def test_a_program_that_is_not_there_is_refused_as_itself() -> None:
    agent = ProcessAgent("absent", ["no-such-program-anywhere"], effect="irreversible")

    @workflow
    async def catching(ctx: Context, given: dict[str, Any]) -> str:
        try:
            await ctx.call(given["agent"], 1)
        except PeerRefused as refused:
            return str(refused)
        return ""

    assert "there is no program 'no-such-program-anywhere'" in play(catching, agent)


def test_definitions_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DefinitionError, match="needs a command"):
        ProcessAgent("empty", [])
    with pytest.raises(DefinitionError, match="0 to 64, not 1000"):
        ProcessAgent("many", ["true"], warm=1000)
    with pytest.raises(DefinitionError, match="NAME of an environment variable") as refused:
        ProcessAgent("loose", ["true"], secrets=["sk-the-secret-itself"])
    assert "sk-the" not in str(refused.value)
    with pytest.raises(UnknownName, match="timeout_s"):
        ProcessAgent("misspelt", ["true"], timeout=3)  # pyright: ignore[reportCallIssue]


def test_the_input_is_checked_before_a_process_is_started(tmp_path: Path) -> None:
    agent = ProcessAgent("checked", script(tmp_path, "open('started', 'w')"), input=Text, folder=str(tmp_path))
    message = failure(agent, {"txt": "a"})
    assert "text" in message
    assert "Field required" in message
    assert not (tmp_path / "started").exists()
