"""What a person can do, one file each: a file here and its name below are a new --mode.

A tool imports what is heavy inside its `run`, so that a command loads only what it needs.
"""

from mgnet_jax.tools import (
    bench,
    compare,
    doctor,
    eval,
    export,
    inspect,
    plan,
    predict,
    prepare,
    report,
    reproduce,
    summary,
    train,
    verify,
)
from mgnet_jax.tools.tool import Tool

_FILES = (
    *(train, eval, predict, export, report, inspect, compare),
    *(reproduce, prepare, summary, plan, bench, doctor, verify),
)
TOOLS: dict[str, Tool] = {tool.NAME: tool for tool in _FILES}
"""Every tool by its name; the first is what runs without --mode."""
