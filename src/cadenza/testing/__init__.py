"""Tests of workflows: virtual time, scripted agents and models, injected failures, crashes everywhere, recordings.

from cadenza import testing
"""

from cadenza.testing.environment import Environment
from cadenza.testing.faults import When
from cadenza.testing.play import environment, run_test
from cadenza.testing.script import Call, Script, scripted_model
from cadenza.testing.tool_call import ToolCall, call

__all__ = ["Call", "Environment", "Script", "ToolCall", "When", "call", "environment", "run_test", "scripted_model"]
