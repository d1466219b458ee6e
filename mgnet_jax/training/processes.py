"""Several processes that train one network: how they find each other, and how they end.

jax.distributed joins them; each sees all devices and computes the same program. Only the first one
speaks on stdout and writes files; checkpoints are saved by all. A process that dies or hangs ends
the others within a bound, since they would wait for it for ever.
"""

import contextlib
import faulthandler
import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax._src import distributed as _distributed  # the barrier has no public name

from mgnet_jax.training import watch
from mgnet_jax.training.launch import LaunchError, find


class ProcessError(RuntimeError):
    """The processes cannot work together; the message says why."""

    exit_code = 1


def begin(how: str, hang_timeout: float) -> None:
    """Joins the other processes, if there are any; before anything else asks JAX for devices.

    Args:
      how: see `find`.
      hang_timeout: seconds after which a process without progress ends itself.

    Raises:
      LaunchError: see `find`.
      ProcessError: they do not come.
    """
    if not 0 < hang_timeout < 1e6:
        raise LaunchError(f"--hang_timeout={hang_timeout:g} must be more than 0 seconds, and < 1e6")
    arguments = find(how, os.environ)
    if arguments is None:
        return
    # it takes SIGTERM's handler away, and fires at a step's number alone
    jax.config.update("jax_enable_preemption_service", False)
    timer = threading.Timer(hang_timeout, _not_joined, (arguments, hang_timeout))
    timer.daemon = True
    timer.start()
    try:  # longer than the timer, since it would end the process without a message
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=round(2 * hang_timeout) + 60,
            heartbeat_timeout_seconds=max(30, round(3 * hang_timeout)),  # the watch comes first
            shutdown_timeout_seconds=max(10, round(hang_timeout)),
        )
    except (RuntimeError, ValueError, OSError) as error:
        where = arguments.get("coordinator_address", "the address of process 0")
        raise ProcessError(
            f"the processes do not find each other: {error} (in process 0: is {where} taken?)"
        ) from error
    finally:
        timer.cancel()
    faulthandler.enable()
    if _distributed.global_state.process_id:
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    watch.begin(
        hang_timeout,
        1,
        f"process {index()}: nothing went on for {{seconds:g}} s (--hang_timeout): "
        f"another process is dead or hangs, or a part of the work takes longer than that. The same "
        f"command goes on from the newest checkpoint.",
        over=_failure,
    )


def _not_joined(arguments: Mapping[str, Any], seconds: float) -> None:
    """Ends a process whose others do not come."""
    which = "the processes"
    if arguments:
        which = "process {process_id} of {num_processes} at {coordinator_address}".format(
            **arguments
        )
    text = f"error: {which}: the others did not come within {seconds:g} s (--hang_timeout): start "
    advice = "all of them with one address that they can reach, on a free port, one COUNT, and "
    os.write(2, f"{text}{advice}each with an INDEX of its own\n".encode())
    os._exit(1)


def _client() -> Any:
    return _distributed.global_state.client


def several() -> bool:
    """Whether there are other processes."""
    return _client() is not None and _distributed.global_state.num_processes > 1


def is_first() -> bool:
    """Whether this is the process that speaks and writes."""
    return not several() or index() == 0


def wait(name: str) -> None:
    """Waits until all processes are here; the name is another one for each place."""
    if several():
        _client().wait_at_barrier(name, _patience())
    watch.alive()


def _patience() -> int:
    """Milliseconds to wait for others: the watch comes first."""
    return round(2000 * watch.running()) or 600_000


def compare(facts: Mapping[str, object]) -> None:
    """Raises LaunchError, in all processes, if they were not started alike.

    To be asked before the devices are: with another number of processes nobody would find them.

    Args:
      facts: what they were started with, by name.
    """
    if not several():
        return
    count = _distributed.global_state.num_processes
    ours = {"the number of processes": repr(count)} | {k: repr(v) for k, v in facts.items()}
    _client().key_value_set(f"mgnet_facts_{index()}", json.dumps(ours))
    others = range(1, count if is_first() else 0)
    verdict = from_first(lambda: next(filter(None, (_differs(i, ours) for i in others)), ""))
    if verdict:
        raise LaunchError(verdict)


def _differs(index: int, first: Mapping[str, str]) -> str:
    """What another process was started with that process 0 was not."""
    theirs = json.loads(_client().blocking_key_value_get(f"mgnet_facts_{index}", _patience()))
    for name in {**first, **theirs}:
        if first.get(name) != theirs.get(name):
            return (
                f"{name} is {first.get(name)} in process 0 and {theirs.get(name)} in process "
                f"{index}: give all the same"
            )
    return ""


def index() -> int:
    """Which process this is, from 0; devices are not asked for."""
    return _distributed.global_state.process_id or 0


_answers = itertools.count()


def from_first(make: Callable[[], str]) -> str:
    """What process 0 makes, in all; the others wait for it."""
    if not several():
        return make()
    name = f"mgnet_first_{next(_answers)}"
    if is_first():
        _client().key_value_set(name, made := make())
        return made
    return _client().blocking_key_value_get(name, _patience())


def check_shared(workdir: Path) -> None:
    """Raises ProcessError if the processes do not see the same folder."""
    if not several():
        return
    seen = workdir / ".processes"

    def write() -> str:
        workdir.mkdir(parents=True, exist_ok=True)
        seen.write_text(token := os.urandom(8).hex())
        return token

    token = from_first(write)
    same = seen.exists() and seen.read_text() == token
    wait("workdir is seen")
    if is_first():
        seen.unlink()
    if not same:
        raise ProcessError(
            f"--workdir={workdir} is not one folder for all processes: process {index()} does not "
            f"see what process 0 wrote there; give a folder on a file system that all share"
        )


def end(code: int) -> None:
    """Leaves the others: together with them if all end so, else at once, with that exit code."""
    if not several():
        return
    if code == 0 or code > 128:
        watch.end()
        jax.distributed.shutdown()
        return
    failed(f"exit code {code}")
    sys.stdout.flush()
    sys.stderr.flush()
    _tell(f"mgnet_ended/{index()}", "")
    until, all_others = time.monotonic() + 3 * watch.GRACE, _distributed.global_state.num_processes
    while is_first() and len(_told("mgnet_ended/")) < all_others and time.monotonic() < until:
        time.sleep(0.2)  # they learn of it from here
    os._exit(code)  # a call that never ends is not waited for


def failed(text: str) -> None:
    """Tells the others why this process ends; the first reason is told."""
    _tell(f"mgnet_failed/{index()}", text)


def _tell(name: str, text: str) -> None:
    """Tells all processes something, once; nothing is done if they are gone."""
    with contextlib.suppress(Exception):  # of the connection, of any kind
        _client().key_value_set(name, text)


def _told(folder: str) -> list[tuple[str, str]]:
    """What processes have told under names that begin so."""
    with contextlib.suppress(Exception):
        return _client().key_value_dir_get(folder)
    return []


def _failure() -> str:
    """Why there is nothing to go on with, if another process has failed."""
    own = f"mgnet_failed/{index()}"
    others = [(name, text) for name, text in _told("mgnet_failed/") if name != own]
    if not others:
        return ""
    name, text = others[0]
    return f"process {index()} ends since process {name.rpartition('/')[2]} did: {text}"


def lost_others(error: BaseException) -> bool:
    """Whether an error says that another process is no longer there."""
    signs = "[Gg]loo|[Cc]onnection (closed|reset)|NCCL|collective|[Cc]oordination|[Bb]arrier"
    return several() and bool(re.search(signs, str(error)))
