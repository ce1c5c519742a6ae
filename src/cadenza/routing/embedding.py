"""Texts as vectors: a small model in this process by default (the extra ``routing``), or any provider's by name.

Two texts that mean the same have vectors that point the same way: the cosine of two rows is their dot product.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cadenza.agents import models
from cadenza.errors import ModelUnavailable, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

LOCAL = "wordllama"
INSTALL = "Install it: pip install 'cadenza[routing]'"
CACHE_BYTES_MAX = 64 * 1024 * 1024
BATCH_MAX = 256  # texts in one request to a provider
REQUEST_TIMEOUT_S = 60.0


class Embedder(Protocol):
    """Turns texts into vectors.

    Attributes:
        name: of the model (``wordllama:l2_supercat``, ``openai:text-embedding-3-small``).
        version: whatever changes the vectors changes it: an index of another version is of no use.
        remote: asks a server, so that it may take seconds and must not be called on an event loop.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def remote(self) -> bool: ...
    def embed(self, texts: Sequence[str]) -> Matrix:
        """One row a text, each of length 1; a text without any known word is a row of zeros."""
        ...


@cache
def embedder(name: str = LOCAL) -> Embedder:
    """The embedder of this name, with a cache; one in a process.

    Args:
        name: ``wordllama`` (static word vectors inside the package; no network, a tenth of a millisecond a text), or
            ``provider:model`` as Pydantic AI knows them; ``ollama:…`` and ``openai-compatible:…`` as for agents.

    Raises:
        UsageError: the name has no form that is known.
        ModelUnavailable: its package or its key is missing; the message says what to install or to set.
    """
    require_extra(name)
    return Remembering(WordVectors() if name == LOCAL else ProviderVectors(name))


class WordVectors:
    """wordllama: the mean of static word vectors, whose weights are inside the installed package."""

    name = "wordllama:l2_supercat"
    remote = False

    def __init__(self) -> None:
        self.version = version("wordllama")
        self._model: Any = _wordllama()

    def embed(self, texts: Sequence[str]) -> Matrix:
        return unit(self._model.embed([*texts]))


class ProviderVectors:
    """A provider's embedding model, through Pydantic AI. Its requests run on an event loop in a thread of its own."""

    version = "1"
    remote = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._model: Any = _provider_model(name)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"embedding {name}", daemon=True)
        self._thread.start()

    def embed(self, texts: Sequence[str]) -> Matrix:
        import numpy as np

        rows: list[Sequence[float]] = []
        for start in range(0, len(texts), BATCH_MAX):
            asked = self._model.embed([*texts[start : start + BATCH_MAX]], input_type="query", settings=None)
            done = asyncio.run_coroutine_threadsafe(asked, self._loop).result(REQUEST_TIMEOUT_S)
            rows.extend(done.embeddings)
        return unit(np.array(rows, np.float32))

    def close(self) -> None:
        """End its thread. Nothing can be embedded afterwards."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Remembering:
    """An embedder that asks another one only for texts that it has not seen of late; by hash, so that none is kept."""

    def __init__(self, of: Embedder, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self.name, self.version, self.remote = of.name, of.version, of.remote
        self._of, self._bytes_max, self._bytes = of, bytes_max, 0
        self._seen: OrderedDict[bytes, Matrix] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Matrix:
        import numpy as np

        keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        with self._lock:
            found = {key: self._seen[key] for key in keys if key in self._seen}
            for key in found:
                self._seen.move_to_end(key)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            made = self._of.embed(list(missing.values()))
            assert made.shape[0] == len(missing), f"{self.name} gave {made.shape[0]} vectors for {len(missing)} texts"
            found |= dict(zip(missing, made, strict=True))
            self._keep({key: found[key].copy() for key in missing})
        if not keys:
            return self._of.embed([])
        return np.stack([found[key] for key in keys])

    def _keep(self, made: dict[bytes, Matrix]) -> None:
        with self._lock:
            for key, row in made.items():
                if key not in self._seen:
                    self._seen[key] = row
                    self._bytes += row.nbytes
            while self._bytes > self._bytes_max:
                _, dropped = self._seen.popitem(last=False)
                self._bytes -= dropped.nbytes


def unit(rows: Matrix) -> Matrix:
    """The rows, each of length 1; rows of zeros stay as they are."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1).astype(np.float32)


def require_extra(wanted: str) -> None:
    """Raises ModelUnavailable where a package of the extra ``routing`` is missing; ``wanted`` is what needs it."""
    from importlib.util import find_spec

    for package in ("numpy", "sklearn", "wordllama"):
        if find_spec(package) is None:
            raise ModelUnavailable(wanted, f"the package {package} is not installed", INSTALL)


def library(module: str, wanted: str) -> Any:
    """A module of the extra ``routing``, most of which has no types; ``wanted`` is what needs it.

    Raises:
        ModelUnavailable: it is not installed.
    """
    require_extra(wanted)
    return import_module(module)


def _wordllama() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    try:
        import wordllama  # pyright: ignore[reportMissingTypeStubs]
    finally:  # importing it sets up logging for the whole process
        for handler in [*root.handlers]:
            if handler not in handlers:
                root.removeHandler(handler)
        root.setLevel(level)
    package: Any = wordllama
    try:
        return package.WordLlama.load(cache_dir=Path(package.__file__).parent, disable_download=True)
    except OSError as error:
        raise ModelUnavailable(
            LOCAL, f"its weights cannot be read ({error})", "Reinstall the package wordllama."
        ) from error


def _provider_model(name: str) -> Any:
    """Translates what Pydantic AI and the providers' clients raise into one error with one way to mend it."""
    from pydantic_ai.exceptions import UserError

    wanted = models.parse(name)
    if wanted.provider == "llamacpp":
        raise UsageError(f"the model {name!r} runs in this process, and gives no vectors; use {LOCAL!r}")
    models.require(wanted)
    try:
        return _infer(wanted)
    except ImportError as error:
        hint = f"Install it: pip install 'pydantic-ai-slim[{wanted.provider}]'"
        raise ModelUnavailable(name, f"the package {error.name or wanted.provider} is not installed", hint) from error
    except (UserError, ValueError) as error:
        raise ModelUnavailable(name, str(error).rstrip("."), "Check its name and its settings.") from error


def _infer(wanted: models.ModelName) -> Any:
    from pydantic_ai.embeddings import infer_embedding_model
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel

    match wanted.provider:
        case "openai-compatible":
            from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

            model, url, key = models.compatible_server(wanted)
            provider = OpenAICompatibleProvider("openai-compatible", base_url=url, api_key=key)
            return OpenAIEmbeddingModel(model, provider=provider)
        case "ollama":
            from pydantic_ai.providers.ollama import OllamaProvider

            return OpenAIEmbeddingModel(wanted.model, provider=OllamaProvider(base_url=models.ollama_url()))
        case _:
            return infer_embedding_model(wanted.full)
