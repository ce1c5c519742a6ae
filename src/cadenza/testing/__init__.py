"""Tests of workflows: virtual time, scripted agents and models, injected failures, crashes everywhere, recordings.

from cadenza import testing
"""

from cadenza.testing.crash import CrashReport, crash_everywhere
from cadenza.testing.environment import Environment
from cadenza.testing.faults import When
from cadenza.testing.play import environment, run_test
from cadenza.testing.record import assert_unchanged, record
from cadenza.testing.script import Call, Script, scripted_model
from cadenza.testing.tool_call import ToolCall, call

__all__ = [
    "Call",
    "CrashReport",
    "Environment",
    "Script",
    "ToolCall",
    "When",
    "assert_unchanged",
    "call",
    "crash_everywhere",
    "environment",
    "record",
    "run_test",
    "scripted_model",
]
