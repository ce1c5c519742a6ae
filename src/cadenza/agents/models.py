"""From a model's name to the model: ``anthropic:claude-…``, ``ollama:llama3.2``, ``llamacpp:/path/to/model.gguf``.

A name is ``provider:model``, as Pydantic AI writes it, and three more: ``ollama:`` without a setting, any server that
speaks OpenAI's protocol, and a GGUF file in this process. Keys come from the environment and are never part of a name.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.errors import ModelUnavailable, UnknownName, UsageError

if TYPE_CHECKING:
    from pydantic_ai.models import Model

log = logging.getLogger("cadenza")

OLLAMA_URL = "http://localhost:11434"
COMPATIBLE = re.compile(r"(?P<model>.+?)@(?P<url>https?://[^\s?#]+)(?:\?key=env:(?P<variable>\w+))?")
COMPATIBLE_FORM = "openai-compatible:NAME@http://host:port/v1, and ?key=env:VARIABLE after it if the server wants a key"
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*(?:KEY|TOKEN)\b")
GGUF = b"GGUF"
LIST_BYTES_MAX = 10_000_000


@dataclass(frozen=True)
class Provider:
    """What a provider needs here. ``keys``: any of these variables; ``extra``: Cadenza's extra with ``package``."""

    package: str
    extra: str = ""
    keys: tuple[str, ...] = ()
    named: str = ""  # Pydantic AI's name of it, where it differs


OPENAI = Provider("openai", keys=("OPENAI_API_KEY",))
GOOGLE = Provider("google.genai", "google", ("GOOGLE_API_KEY", "GEMINI_API_KEY"), "google")
PROVIDERS = {
    "openai": OPENAI,
    "openai-chat": OPENAI,
    "openai-responses": OPENAI,
    "anthropic": Provider("anthropic", "anthropic", ("ANTHROPIC_API_KEY",)),
    "google": GOOGLE,
    "google-gla": GOOGLE,
    "groq": Provider("groq", "groq", ("GROQ_API_KEY",)),
    "ollama": Provider("openai"),
    "openai-compatible": Provider("openai"),
    "llamacpp": Provider("xllamacpp", "llamacpp"),
}


@dataclass(frozen=True)
class ModelName:
    """A model's name, taken apart. ``full`` is the whole of it, ``model`` what follows the provider."""

    full: str
    provider: str
    model: str


def resolve(name: str) -> Model:
    """The model of this name, ready to be asked. Nothing is sent.

    An API's model keeps its connections, which belong to one event loop: resolve it once for each loop.

    Args:
        name: ``provider:model``. ``openai``, ``anthropic``, ``google``, ``groq`` and whatever else Pydantic AI knows;
            ``ollama:NAME`` (at ``$OLLAMA_BASE_URL`` or localhost); ``openai-compatible:NAME@URL`` with
            ``?key=env:VARIABLE`` if it wants a key; ``llamacpp:/path/to/model.gguf``; and ``test``, which makes up
            answers of the right shape.

    Raises:
        UnknownName: no provider has this name; with the nearest ones.
        UsageError: the name has not the form of one.
        ModelUnavailable: the key, the package or the file is missing; says which, and how to mend it.
    """
    from pydantic_ai.models import infer_model

    if name == "test":
        return infer_model(name)
    wanted = parse(name)
    require(wanted)
    match wanted.provider:
        case "ollama":
            return _ollama(wanted)
        case "openai-compatible":
            return _compatible(wanted)
        case "llamacpp":
            from cadenza.agents.llamacpp import LlamaCppModel

            return LlamaCppModel(gguf_of(wanted))
        case _:
            return _of_pydantic_ai(wanted)


def usable(names: Sequence[str], made: Mapping[str, Model]) -> list[Model]:
    """The models of a chain that can be asked from here, in its order; the others are left out, and logged.

    Args:
        made: models that exist already, by their names.

    Raises:
        ModelUnavailable: none of them can be asked; the first one's reason.
    """
    found: list[Model] = []
    missing: list[ModelUnavailable] = []
    for name in names:
        try:
            found.append(made.get(name) or resolve(name))
        except ModelUnavailable as error:
            missing.append(error)
    if not found and missing:
        raise missing[0]
    for error in missing:
        log.warning("%s The next model is asked instead.", error)
    return found


def reachable(name: str, timeout_s: float = 2.0) -> tuple[bool, str]:
    """Whether a model could be asked now, and what was seen. Hosted ones are not called: their key is looked for.

    Args:
        timeout_s: how long a server of one's own may take to list its models.
    """
    if name == "test":
        return True, "makes its answers up"
    try:
        wanted = parse(name)
        require(wanted)
    except UsageError as error:
        return False, f"{error.problem}. {error.hint}" if isinstance(error, ModelUnavailable) else str(error)
    match wanted.provider:
        case "llamacpp":
            size_bytes = gguf_of(wanted).stat().st_size
            return True, f"the file is there, {size_bytes / 1e6:,.0f} MB"
        case "ollama":
            ok, what = _serves(ollama_url(), wanted.model, None, timeout_s)
            hint = f". Start it (ollama serve), or set OLLAMA_BASE_URL. Then: ollama pull {wanted.model}"
            return ok, what if ok else what + hint
        case "openai-compatible":
            model, url, key = compatible_server(wanted)
            return _serves(url, model, key, timeout_s)
        case provider if provider in PROVIDERS:
            key = next(key for key in PROVIDERS[provider].keys if os.environ.get(key))
            return True, f"{key} is set; the service was not called"
        case _:
            try:
                resolve(name)
            except ModelUnavailable as error:
                return False, f"{error.problem}. {error.hint}"
            return True, "its settings are there; the service was not called"


def listed_models(url: str, key: str | None = None, timeout_s: float = 2.0) -> tuple[list[str] | None, str]:
    """The models that a server which speaks OpenAI's protocol lists; None and why, if it does not."""
    import http.client
    import json
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{url.rstrip('/')}/models", headers={"Accept": "application/json"})
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            listed: Any = json.loads(answer.read(LIST_BYTES_MAX))["data"]
            return sorted({str(each["id"]) for each in listed}), ""
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                return None, f"{url} refuses the key ({error.code}). Name its variable: ?key=env:VARIABLE"
            return None, f"{url}/models answers {error.code}. Does the address end in /v1?"
    except (OSError, http.client.HTTPException) as error:
        return None, f"{url} does not answer ({getattr(error, 'reason', None) or error})"
    except (ValueError, KeyError, TypeError):
        return None, f"{url}/models does not list models. Is it a server that speaks OpenAI's protocol?"


def parse(name: str) -> ModelName:
    """Take a name apart. Raises UnknownName for an unknown provider, UsageError for a name of no form."""
    provider, colon, model = name.partition(":")
    if not colon:
        known = _nearest_models(name)
        hint = f" Did you mean {' or '.join(map(repr, known))}?" if known else " For example: 'openai:gpt-5'."
        raise UsageError(f"the model {name!r} has no provider; write provider:model.{hint}")
    if provider not in PROVIDERS and not _pydantic_ai_knows(provider):
        hint = "A model is named provider:model, for example anthropic:claude-sonnet-4-5 or llamacpp:/path/to/it.gguf."
        raise UnknownName("provider of models", provider, [*PROVIDERS, *_providers_of_pydantic_ai()], hint)
    if not model.strip():
        raise UsageError(f"the model {name!r} names a provider and no model; write {provider}:NAME")
    if provider == "openai-compatible" and not COMPATIBLE.fullmatch(model):
        raise UsageError(f"the model {name!r} cannot be read. Write {COMPATIBLE_FORM}.")
    return ModelName(name, provider, model)


def require(wanted: ModelName) -> None:
    """Check what this machine must have: the package, the key, the file. Raises ModelUnavailable."""
    provider = PROVIDERS.get(wanted.provider)
    if provider is None:
        return
    if not _installed(provider.package):
        raise ModelUnavailable(
            wanted.full,
            f"the package {provider.package} is not installed",
            f"Install it: pip install 'cadenza[{provider.extra}]'" if provider.extra else "Reinstall cadenza.",
        )
    if provider.keys and not any(os.environ.get(key) for key in provider.keys):
        raise _no_key(wanted.full, provider.keys)
    if wanted.provider == "openai-compatible":
        _key_of(wanted)
    if wanted.provider == "llamacpp":
        gguf_of(wanted)


def ollama_url() -> str:
    """Where Ollama's OpenAI-compatible interface is; ``$OLLAMA_BASE_URL`` may be given with or without its /v1."""
    root = (os.environ.get("OLLAMA_BASE_URL") or OLLAMA_URL).rstrip("/")
    return root if root.endswith("/v1") else f"{root}/v1"


def compatible_server(wanted: ModelName) -> tuple[str, str, str | None]:
    """The model, the server's address and the key of an ``openai-compatible`` name. Raises ModelUnavailable."""
    found = COMPATIBLE.fullmatch(wanted.model)
    assert found is not None, "parse has checked the form"
    return found["model"], found["url"], _key_of(wanted)


def gguf_of(wanted: ModelName) -> Path:
    """The file of a ``llamacpp`` name. Raises ModelUnavailable: missing, unreadable, or not in GGUF."""
    path = Path(wanted.model).expanduser()
    try:
        with path.open("rb") as file:
            start = file.read(len(GGUF))
    except FileNotFoundError:
        beside = sorted(each.name for each in path.parent.glob("*.gguf")) if path.parent.is_dir() else []
        hint = f"In {path.parent} there are: {', '.join(beside[:5])}." if beside else "Check the path."
        raise ModelUnavailable(wanted.full, f"there is no file {path}", hint) from None
    except OSError as error:
        raise ModelUnavailable(wanted.full, f"{path} cannot be read: {error.strerror}", "Name a GGUF file.") from None
    if start != GGUF:
        hint = "Name a file of a model's weights in GGUF, the format of llama.cpp."
        raise ModelUnavailable(wanted.full, f"{path} is not in GGUF", hint)
    return path.resolve()


# --- the kinds of models ----------------------------------------------------------------------------------------------


def _ollama(wanted: ModelName) -> Model:
    from pydantic_ai.models.ollama import OllamaModel
    from pydantic_ai.providers.ollama import OllamaProvider

    return OllamaModel(wanted.model, provider=OllamaProvider(base_url=ollama_url()))


def _compatible(wanted: ModelName) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    model, url, key = compatible_server(wanted)
    return OpenAIChatModel(model, provider=OpenAICompatibleProvider("openai-compatible", base_url=url, api_key=key))


def _of_pydantic_ai(wanted: ModelName) -> Model:
    """Translates what Pydantic AI and the providers' clients raise into one error with one way to mend it."""
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    provider = PROVIDERS.get(wanted.provider)
    named = (provider.named if provider else "") or wanted.provider
    try:
        return infer_model(f"{named}:{wanted.model}")
    except ImportError as error:
        hint = f"Install it: pip install 'pydantic-ai-slim[{named}]'"
        raise ModelUnavailable(wanted.full, f"the package {error.name or named} is not installed", hint) from error
    except (UserError, ValueError) as error:
        if variables := list(dict.fromkeys(VARIABLE.findall(str(error)))):
            raise _no_key(wanted.full, variables) from error
        raise ModelUnavailable(wanted.full, str(error).rstrip("."), "Check its name and its settings.") from error


def _serves(url: str, model: str, key: str | None, timeout_s: float) -> tuple[bool, str]:
    names, problem = listed_models(url, key, timeout_s)
    if names is None:
        return False, problem
    if model in names or f"{model}:latest" in names:
        return True, f"{url} has it"
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    return False, f"{url} answers and has no {model}; it has: {shown or 'nothing'}"


def _key_of(wanted: ModelName) -> str | None:
    found = COMPATIBLE.fullmatch(wanted.model)
    variable = found["variable"] if found else None
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise _no_key(wanted.full, [variable])
    return key


def _no_key(name: str, variables: Iterable[str]) -> ModelUnavailable:
    first, *others = variables
    either = f" (or {' or '.join(others)})" if others else ""
    return ModelUnavailable(name, f"it needs a key, and {first}{either} is not set", f"Set it: export {first}=…")


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _pydantic_ai_knows(provider: str) -> bool:
    from pydantic_ai.providers import infer_provider_class

    try:
        infer_provider_class(provider)
    except ValueError:
        return False
    except ImportError:  # known, and its package is not installed
        return True
    return True


def _providers_of_pydantic_ai() -> set[str]:
    """Names to suggest from; there are more that have no model in the list."""
    from pydantic_ai.models import known_model_names

    return {name.partition(":")[0] for name in known_model_names() if ":" in name} - {"test"}


def _nearest_models(name: str) -> list[str]:
    import difflib

    from pydantic_ai.models import known_model_names

    tails: dict[str, Any] = {}
    for known in known_model_names():
        if known.partition(":")[0] in PROVIDERS:
            tails.setdefault(known.partition(":")[2], known)
    return [tails[tail] for tail in difflib.get_close_matches(name, list(tails), n=2, cutoff=0.7)]
