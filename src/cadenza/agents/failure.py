"""Why an agent could not go on: one message that says which agent, what of it, and how to mend it."""

from __future__ import annotations

from typing import Any

from cadenza.errors import AgentError, AgentRefused, CadenzaError, ModelUnavailable, UnknownName

CHECK_MODELS = "cadenza doctor says which models can be reached."


def explain(error: BaseException, agent: str, models: tuple[str, ...]) -> BaseException:
    """``error`` as an AgentError, if it is one that Pydantic AI raises; else as it is."""
    from pydantic_ai import exceptions

    part = f"model {' → '.join(models)}"
    match error:
        case CadenzaError():
            return error
        case exceptions.FallbackExceptionGroup():
            each = "; ".join(_brief(one) for one in error.exceptions)
            return AgentError(agent, part, f"every model failed: {each}", CHECK_MODELS)
        case exceptions.ModelAPIError():
            return _of_api(error, agent, f"model {error.model_name}")
        case exceptions.IncompleteToolCall() | exceptions.OutputTokenLimitExceeded():
            hint = "Raise max_tokens in the agent's settings, or ask for less."
            return AgentRefused(agent, part, "the answer was cut off at the limit of output tokens", hint)
        case exceptions.UsageLimitExceeded():
            hint = "Raise requests_max if it needs more; its tools or instructions may lead it in circles."
            return AgentRefused(agent, part, str(error).partition(". Consider")[0], hint)
        case exceptions.ContentFilterError():
            return AgentRefused(agent, part, f"the provider's content filter stopped it: {error}", "Change the input.")
        case exceptions.UnexpectedModelBehavior():
            return _of_behaviour(error, agent, part)
        case exceptions.UserError():
            return AgentRefused(agent, part, str(error), "Mend the agent's definition, or its model's settings.")
        case _:
            return error


def is_of_model(error: BaseException) -> bool:
    """Whether a turn has failed by its model: nobody knows it, it cannot be used here, or its provider refuses."""
    from pydantic_ai import exceptions

    if isinstance(error, AgentError):
        return isinstance(error.__cause__, exceptions.ModelAPIError | exceptions.FallbackExceptionGroup)
    return isinstance(error, ModelUnavailable) or (
        isinstance(error, UnknownName) and error.kind == "provider of models"
    )


def _of_api(error: Any, agent: str, part: str) -> AgentError:
    from pydantic_ai import exceptions

    said = _brief(error)
    match error:
        case exceptions.ModelAuthenticationError():
            hint = f"Set the right API key in the environment. {CHECK_MODELS}"
            return AgentRefused(agent, part, f"the key was refused ({said})", hint)
        case exceptions.ModelNotFoundError():
            nearest = getattr(error, "suggested_model_id", None)
            hint = f"Did you mean {nearest!r}?" if nearest else f"Check the model's name. {CHECK_MODELS}"
            return AgentRefused(agent, part, f"the provider does not know this model ({said})", hint)
        case exceptions.ModelContextWindowExceededError():
            hint = "Give it less, let its tools return less, or take a model with a larger context."
            return AgentRefused(agent, part, f"the conversation is longer than its context ({said})", hint)
        case exceptions.ModelQuotaExceededError():
            return AgentRefused(agent, part, f"the account's quota is used up ({said})", "Top it up, or add a model.")
        case exceptions.ModelRateLimitError():
            wait = f" for {error.retry_after:g} s" if error.retry_after else ""
            hint = f"Wait{wait} and retry the run, give the agent retry=Retry(…), or add a second model."
            return AgentError(agent, part, f"the provider's rate limit was reached ({said})", hint)
        case exceptions.ModelRequestRejectedError():
            return AgentRefused(agent, part, f"the provider refused the request ({said})", "")
        case exceptions.ModelConnectionError() | exceptions.ModelRequestTimeout():
            return AgentError(agent, part, f"it cannot be reached ({said})", CHECK_MODELS)
        case _ if "decode" in said:
            hint = "It was cut off, or the address is not that of such an API. Try again, or check it."
            return AgentError(agent, part, f"the answer cannot be read ({said})", hint)
        case _:
            return AgentError(agent, part, f"the request failed ({said})", "Try again, or add a second model.")


def _of_behaviour(error: Any, agent: str, part: str) -> AgentError:
    said = str(error)
    cause = error.__cause__
    detail = " ".join(str(cause).split())[:300] if cause is not None else ""
    if "output" in said and "retries" in said:
        hint = "Simplify the output type, say more in the instructions, or raise output_retries."
        return AgentRefused(agent, "its output", f"the answer does not fit the output type: {detail or said}", hint)
    if "retries" in said:
        return AgentRefused(agent, "a tool", f"{said}: {detail}", "Say in the tool's docstring what it takes.")
    return AgentError(agent, part, f"the answer cannot be read: {said[:300]}", "")


def _brief(error: BaseException) -> str:
    """``HTTP 401: Incorrect API key provided``."""
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    message = _message_in(body) or str(getattr(error, "message", "") or error)
    text = " ".join(message.split())[:300].rstrip(".")
    return f"HTTP {status}: {text}" if status else text


def _message_in(body: Any) -> str:
    if isinstance(body, dict):
        inner: Any = body.get("error", body)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(inner, dict):
            return str(inner.get("message", ""))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return str(inner)  # pyright: ignore[reportUnknownArgumentType]
    return ""
