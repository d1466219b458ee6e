"""What says how many processes train one network: the command line, the environment."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OURS = ("MGNET_COORDINATOR", "MGNET_PROCESSES", "MGNET_PROCESS")
"""Variables of our own launch scripts: HOST:PORT, how many processes, and which this one is."""


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
        or not 0 < int(parts[0].rpartition(":")[2]) < 65536
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
