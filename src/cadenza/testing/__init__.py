"""Tests of workflows: virtual time, scripted agents and models, injected failures, crashes everywhere, recordings.

from cadenza import testing
"""

from cadenza.testing.environment import Environment, environment, run_test
from cadenza.testing.faults import When
from cadenza.testing.script import Call, Script

__all__ = ["Call", "Environment", "Script", "When", "environment", "run_test"]
