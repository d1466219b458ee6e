"""Several processes that train one network: how they find each other, and how they end.

jax.distributed joins them; each sees all devices and computes the same program. Only the first one
speaks on stdout and writes files; checkpoints are saved by all. A process that dies or hangs ends
the others within a bound, since they would wait for it for ever.
"""

import faulthandler
import itertools
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
from jax._src import distributed as _distributed  # the barrier has no public name

from mgnet_jax.training import watch

OURS = ("MGNET_COORDINATOR", "MGNET_PROCESSES", "MGNET_PROCESS")
"""Variables of our own launch scripts: HOST:PORT, how many processes, and which this one is."""


class ProcessError(RuntimeError):
    """The processes cannot work together; the message says why."""

    exit_code = 1


class LaunchError(ValueError):
    """What says how many processes there are makes no sense."""

    exit_code = 2


def find(how: str, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of jax.distributed.initialize; {} if it finds them, None for one process.

    Args:
      how: "auto", "off" or "HOST:PORT,COUNT,INDEX".
      environment: as os.environ.

    Raises:
      LaunchError: it is none of these, or a variable is missing or makes no sense.
    """
    if how == "off":
        return None
    if how != "auto":
        return _address(how.split(","), f"--distributed={how}")
    given = [name for name in OURS if environment.get(name)]
    if given:
        if missing := [name for name in OURS if name not in given]:
            raise LaunchError(f"{', '.join(given)} is set, and {', '.join(missing)} is missing")
        return _address([environment[name] for name in OURS], ", ".join(OURS))
    slurm = "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"
    if all(name in environment for name in slurm):
        return {} if environment.get("SLURM_NTASKS", "1") != "1" else None
    if environment.get("OMPI_COMM_WORLD_SIZE", "1") != "1":
        return {}
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts or environment.get("MEGASCALE_NUM_SLICES", "1") != "1":
        return {}
    chips = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    on_tpu_vm = chips and not hosts and find_spec("libtpu") is not None
    return {} if on_tpu_vm and "cpu" not in environment.get("JAX_PLATFORMS", "") else None


def _address(parts: list[str], what: str) -> dict[str, Any] | None:
    """HOST:PORT, COUNT and INDEX as arguments; None if they say that there is one process."""
    number = re.compile(r"\d{1,6}")
    if (
        len(parts) != 3
        or not re.fullmatch(r".+:\d{1,5}", parts[0])
        or not all(number.fullmatch(part) for part in parts[1:])
        or int(parts[2]) >= int(parts[1])
    ):
        raise LaunchError(
            f"{what} must be HOST:PORT, COUNT and INDEX, as in 10.0.0.1:1234,4,0: the address of "
            f"process 0, how many there are, and which this one is, from 0; it is {parts}"
        )
    count, index = map(int, parts[1:])
    if count == 1:
        return None
    return {"coordinator_address": parts[0], "num_processes": count, "process_id": index}


def begin(how: str, hang_timeout: float) -> None:
    """Joins the other processes, if there are any; before anything else asks JAX for devices.

    Args:
      how: see `find`.
      hang_timeout: seconds after which a process without progress ends itself.

    Raises:
      LaunchError: see `find`.
      ProcessError: they do not come.
    """
    if hang_timeout <= 0:
        raise LaunchError(f"--hang_timeout={hang_timeout:g} must be more than 0 seconds")
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
        raise ProcessError(f"the processes do not find each other: {error}") from error
    finally:
        timer.cancel()
    faulthandler.enable()
    if _distributed.global_state.process_id:
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    watch.begin(
        hang_timeout,
        1,
        f"process {jax.process_index()}: nothing went on for {{seconds:g}} s (--hang_timeout): "
        f"another process is dead or hangs, or a part of the work takes longer than that. The same "
        f"command goes on from the newest checkpoint.",
    )


def _not_joined(arguments: Mapping[str, Any], seconds: float) -> None:
    """Ends a process whose others do not come."""
    which = "the processes"
    if arguments:
        which = "process {process_id} of {num_processes} at {coordinator_address}".format(
            **arguments
        )
    text = f"error: {which}: the others did not come within {seconds:g} s (--hang_timeout): start "
    os.write(
        2, f"{text}all of them with one address that they can reach, on a free port\n".encode()
    )
    os._exit(1)


def _client() -> Any:
    return _distributed.global_state.client


def several() -> bool:
    """Whether there are other processes."""
    return _client() is not None and jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that speaks and writes."""
    return not several() or jax.process_index() == 0


def wait(name: str) -> None:
    """Waits until all processes are here; the name is another one for each place."""
    if several():
        _client().wait_at_barrier(name, _patience())
    watch.alive()


def _patience() -> int:
    """Milliseconds to wait for others: the watch comes first."""
    return round(2000 * watch.running()) or 600_000


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
    if is_first():
        workdir.mkdir(parents=True, exist_ok=True)
        token = os.urandom(8).hex()
        (workdir / ".processes").write_text(token)
        _client().key_value_set("mgnet_workdir", token)
    wait("workdir is there")
    token = _client().blocking_key_value_get("mgnet_workdir", 60_000)
    seen = workdir / ".processes"
    same = seen.exists() and seen.read_text() == token
    wait("workdir is seen")
    if is_first():
        seen.unlink(missing_ok=True)
    if not same:
        raise ProcessError(
            f"--workdir={workdir} is not one folder for all processes: process "
            f"{jax.process_index()} does not see what process 0 wrote there; give a folder on a "
            f"file system that all share"
        )


def end(code: int) -> None:
    """Leaves the others: together with them if all end so, else at once, with that exit code."""
    if not several():
        return
    if code == 0 or code > 128:
        watch.end()
        jax.distributed.shutdown()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the others are not waited for, nor is a call that never ends


def lost_others(error: BaseException) -> bool:
    """Whether an error says that another process is no longer there."""
    signs = "[Gg]loo|[Cc]onnection (closed|reset)|NCCL|collective|[Cc]oordination|[Bb]arrier"
    return several() and bool(re.search(signs, str(error)))
