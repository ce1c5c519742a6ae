"""The doctor's checks of models: those that the project's agents name, and those of this machine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from cadenza.cli.agents_beside import agent_files_in
from cadenza.cli.checks_machine import Check
from cadenza.errors import AgentFileInvalid

DEFAULT_MODEL = "CADENZA_MODEL"


def model_checks(project: Path, targets: Sequence[str] = ()) -> Iterator[Check]:
    """The models of the agents in ``project``/agents and in ``targets``, and of ``$CADENZA_MODEL``; then what there is
    besides.

    An agent that could not ask any of its models is a problem; one that would have to do with its second is a warning.

    Args:
        targets: files or modules that define agents.
    """
    files = agent_files_in(project)
    for path in files:
        yield _of_agent(path)
    yield from _of_code(targets, {path.stem for path in files})
    if name := os.environ.get(DEFAULT_MODEL):
        yield _of_models(f"${DEFAULT_MODEL}", [name])
    yield _hosted()
    yield from _ollama()
    if importlib.util.find_spec("xllamacpp") is not None:
        yield Check(
            "llama.cpp", "ok", f"xllamacpp {version('xllamacpp')}; a GGUF file is the model llamacpp:/path/to/it.gguf"
        )


def _of_agent(path: Path) -> Check:
    from cadenza.agents.files import AgentFile

    try:
        definition = AgentFile(path).definition
    except AgentFileInvalid as error:
        return Check(f"agent {path.stem}", "problem", str(error).replace("\n", "; "))
    return _of_models(f"agent {definition.name}", definition.model)


def _of_code(targets: Sequence[str], seen: set[str]) -> Iterator[Check]:
    """The LLM agents that ``targets`` define, without those that were ``seen`` as files."""
    from cadenza.agents.agent import agents
    from cadenza.agents.llm import Agent
    from cadenza.cli.target import load

    for target in targets:
        load(target)
    for name, agent in sorted(agents.items()) if targets else ():
        if isinstance(agent, Agent) and name not in seen:
            yield _of_models(f"agent {name}", list(agent.model_names))


def _hosted() -> Check:
    """The providers whose key is set. None need be: models may be local."""
    from cadenza.agents.models import PROVIDERS

    keys = {key: None for each in PROVIDERS.values() for key in each.keys}
    found = [key for key in keys if os.environ.get(key)]
    if not found:
        return Check("hosted models", "ok", f"no key is set, so none can be asked ({', '.join(keys)})")
    return Check(
        "hosted models", "ok", f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} set; nothing was called"
    )


def _of_models(what: str, names: list[str]) -> Check:
    from cadenza.agents.models import reachable

    seen = [(name, *reachable(name)) for name in names]
    count = sum(ok for _, ok, _ in seen)
    detail = "; ".join(f"{name}: {found}" for name, _, found in seen)
    return Check(what, "ok" if count == len(seen) else "warning" if count else "problem", detail)


def _ollama() -> Iterator[Check]:
    """Ollama's models, if it runs here; silence where nobody has asked for it."""
    from cadenza.agents.models import listed_models, ollama_url

    names, problem = listed_models(ollama_url())
    if names is not None:
        yield Check("Ollama", "ok", f"{ollama_url()} has: {', '.join(names) or 'no models yet; ollama pull NAME'}")
    elif os.environ.get("OLLAMA_BASE_URL"):
        yield Check("Ollama", "warning", problem)
