"""From a model's name to the model: every way to write a name, and one clear error for whatever is missing."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza.agents.models import reachable, resolve, usable
from cadenza.errors import ModelUnavailable, UnknownName, UsageError
from tests.model_listing import listing_models

KEYS = {
    "openai:gpt-5": "OPENAI_API_KEY",
    "openai-chat:gpt-5": "OPENAI_API_KEY",
    "anthropic:claude-sonnet-4-5": "ANTHROPIC_API_KEY",
    "google:gemini-2.5-flash": "GOOGLE_API_KEY",
    "google-gla:gemini-2.5-flash": "GOOGLE_API_KEY",
    "groq:llama-3.3-70b-versatile": "GROQ_API_KEY",
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*KEYS.values(), "GEMINI_API_KEY", "MISTRAL_API_KEY", "OLLAMA_BASE_URL"]:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(("name", "variable"), KEYS.items())
def test_a_hosted_model_is_found_by_its_name(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "a key")
    assert resolve(name).model_name == name.partition(":")[2]


@pytest.mark.parametrize(("name", "variable"), KEYS.items())
def test_a_missing_key_is_named_by_its_variable(name: str, variable: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        resolve(name)
    assert f"{variable}" in str(caught.value)
    assert f"export {variable}=…" in str(caught.value)


def test_the_older_variable_of_google_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "a key")
    assert resolve("google:gemini-2.5-flash").system == "google"


@pytest.mark.parametrize("name", [name for name in KEYS if not name.startswith("openai")])
def test_a_missing_package_is_named_by_the_extra_that_brings_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = name.partition(":")[0].removesuffix("-gla")
    package = "google.genai" if extra == "google" else extra
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelUnavailable) as caught:
        resolve(name)
    assert f"the package {package} is not installed. Install it: pip install 'cadenza[{extra}]'" in str(caught.value)


def test_a_provider_of_pydantic_ai_without_an_extra_of_ours_says_what_to_install() -> None:
    with pytest.raises(ModelUnavailable) as caught:
        resolve("mistral:mistral-large-latest")
    assert "pip install 'pydantic-ai-slim[mistral]'" in str(caught.value)


def test_a_provider_without_an_extra_of_ours_names_its_key_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match="DEEPSEEK_API_KEY is not set"):
        resolve("deepseek:deepseek-chat")


def test_an_unknown_provider_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        resolve("antropic:claude-sonnet-4-5")
    assert "'anthropic'" in str(caught.value)


def test_a_name_without_a_provider_is_answered_with_one() -> None:
    with pytest.raises(UsageError, match="write provider:model"):
        resolve("my-model")
    with pytest.raises(UsageError, match="Did you mean 'anthropic:claude"):
        resolve("claude-sonnet-5-5")


def test_a_provider_alone_is_no_model() -> None:
    with pytest.raises(UsageError, match="openai:NAME"):
        resolve("openai:")


@pytest.mark.parametrize("url", ["http://box:8080", "http://box:8080/", "http://box:8080/v1"])
def test_ollama_is_where_its_variable_says(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_BASE_URL", url)
    made = resolve("ollama:llama3.2:1b")
    assert (made.model_name, made.base_url) == ("llama3.2:1b", "http://box:8080/v1/")


def test_ollama_is_on_this_machine_by_default() -> None:
    assert resolve("ollama:llama3.2").base_url == "http://localhost:11434/v1/"


def test_any_server_that_speaks_openai_is_named_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of another server")
    made = resolve("openai-compatible:qwen/q@1@http://box:8000/v1")
    assert (made.model_name, made.base_url) == ("qwen/q@1", "http://box:8000/v1/")
    assert made.provider is not None
    assert made.provider.client.api_key != "of another server"


def test_the_key_of_a_compatible_server_is_a_reference_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "openai-compatible:m@https://box/v1?key=env:BOX_KEY"
    monkeypatch.delenv("BOX_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match="BOX_KEY is not set"):
        resolve(name)
    monkeypatch.setenv("BOX_KEY", "secret")
    made = resolve(name)
    assert made.provider is not None
    assert made.provider.client.api_key == "secret"


@pytest.mark.parametrize("name", ["m", "m@box/v1", "m@http://box/v1?key=secret", "@http://box/v1"])
def test_a_compatible_server_that_cannot_be_read_shows_the_form(name: str) -> None:
    with pytest.raises(UsageError, match="Write openai-compatible:NAME@http://host:port/v1"):
        resolve(f"openai-compatible:{name}")


def test_a_missing_gguf_file_is_answered_with_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnavailable) as caught:
        resolve(f"llamacpp:{tmp_path}/smal.gguf")
    assert f"there is no file {tmp_path}/smal.gguf" in str(caught.value)
    assert "small.gguf" in str(caught.value)


def test_a_file_that_is_no_gguf_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelUnavailable, match="is not in GGUF"):
        resolve(f"llamacpp:{tmp_path}/m.gguf")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        resolve(f"llamacpp:{tmp_path}")


def test_llamacpp_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ModelUnavailable, match=r"pip install 'cadenza\[llamacpp\]'"):
        resolve("llamacpp:/m.gguf")


def test_a_model_that_makes_answers_up_needs_nothing() -> None:
    assert resolve("test").system == "test"


def test_a_chain_is_asked_without_the_models_that_cannot_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    made = resolve("test")
    assert usable(["anthropic:claude-sonnet-4-5", "test", "mine"], {"mine": made})[1:] == [made]
    assert "ANTHROPIC_API_KEY is not set" in caplog.text
    assert "The next model is asked instead." in caplog.text


def test_a_chain_without_any_that_can_be_asked_says_why_of_the_first() -> None:
    with pytest.raises(ModelUnavailable, match="ANTHROPIC_API_KEY"):
        usable(["anthropic:claude-sonnet-4-5", "groq:llama-3.3-70b-versatile"], {})


# --- whether a model can be reached -----------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[str]:
    with listing_models() as url:
        yield url


def test_a_hosted_model_is_reachable_when_its_key_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    ok, what = reachable("anthropic:claude-sonnet-4-5")
    assert not ok
    assert "ANTHROPIC_API_KEY is not set" in what
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    ok, what = reachable("anthropic:claude-sonnet-4-5")
    assert ok
    assert "secret" not in what


def test_ollama_is_asked_for_its_models(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_BASE_URL", server)
    assert reachable("ollama:llama3.2")[0]
    assert reachable("ollama:qwen3:8b")[0]
    ok, what = reachable("ollama:mistral")
    assert not ok
    assert "has no mistral; it has: llama3.2:latest, qwen3:8b" in what


def test_a_server_that_does_not_answer_is_said_so(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("OLLAMA_BASE_URL", f"http://127.0.0.1:{port}")
    ok, what = reachable("ollama:llama3.2")
    assert not ok
    assert "does not answer" in what
    assert "ollama serve" in what


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OLLAMA_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer (timed out)" in reachable("ollama:llama3.2", timeout_s=0.05)[1]


def test_a_compatible_server_is_asked_with_its_key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reachable(f"openai-compatible:qwen3:8b@{server}/v1")[0]
    name = f"openai-compatible:qwen3:8b@{server}/v1?key=env:BOX_KEY"
    monkeypatch.setenv("BOX_KEY", "bad")
    ok, what = reachable(name)
    assert not ok
    assert "refuses the key (401)" in what
    monkeypatch.setenv("BOX_KEY", "good")
    assert reachable(name)[0]
    assert "Does the address end in /v1?" in reachable(f"openai-compatible:qwen3:8b@{server}")[1]


def test_a_gguf_file_is_reachable_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(2_000_000))
    assert reachable(f"llamacpp:{tmp_path}/m.gguf") == (True, "the file is there, 2 MB")
    assert reachable(f"llamacpp:{tmp_path}/no.gguf")[0] is False


def test_a_name_that_cannot_be_read_is_not_reachable() -> None:
    ok, what = reachable("olama:llama3.2")
    assert not ok
    assert "'ollama'" in what
