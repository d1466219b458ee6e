"""One trainer a folder: a lock that the operating system frees when its holder dies."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgnet_jax.training import processes
from mgnet_jax.training.progress import say

NAME = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class LockError(RuntimeError):
    """Another trainer works in this folder; the message says which."""

    exit_code = 2


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator["Lock | None"]:
    """Holds the lock of a folder, which is made if missing; of several processes the first does.

    Raises:
      LockError: another process holds it, or one on another host did not free it.
    """
    if not processes.is_first():
        yield None
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with Lock(workdir / NAME) as lock:
        yield lock


class Lock(contextlib.ExitStack):
    """A lock, held until it is closed; the file that it lies on says by whom.

    Args:
      path: of that file.

    Raises:
      LockError: see `locked`.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self.callback(os.close, self._descriptor)
            try:
                self._take()
            except BaseException:
                self.close()
                raise
            if self.holds():
                break
            self.close()  # whoever held it removed the file meanwhile
        self.callback(self._free)

    def holds(self) -> bool:
        """Whether the folder is still the one that was locked: not removed, nor another one."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except OSError:
            return False

    def _take(self) -> None:
        ours = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        supported = True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self._read():
                time.sleep(0.5)  # it is just being written
            raise LockError(
                f"{self._who(self._read())} works there; wait for its end, or give another "
                f"--workdir"
            ) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            supported = False
            say(
                f"{self.path.parent} is on a file system without locks ({error.strerror}): see to "
                f"it that no other run works there"
            )
        before = self._read()
        if before and not _is_over(before, ours, supported):
            raise LockError(
                f"{self._who(before)} worked there and did not say that it ended; if it is dead, "
                f"remove {self.path}"
            )
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, (json.dumps(ours) + "\n").encode(), 0)
        except OSError as error:
            error.filename = str(self.path)
            raise

    def _free(self) -> None:
        if self.holds():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(os.pread(self._descriptor, 4096, 0) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _who(self, holder: dict[str, Any]) -> str:
        known = {key: holder.get(key, "?") for key in ("pid", "host", "since")}
        return "{}: process {pid} on {host}, begun {since},".format(self.path.parent, **known)


def _is_over(before: dict[str, Any], ours: dict[str, Any], supported: bool) -> bool:
    """Whether who did not free a lock is dead: of this host, or this job before it was requeued."""
    if before.get("host") != ours["host"]:
        return bool(ours["job"]) and before.get("job") == ours["job"]
    if supported:
        return True  # else the lock would be held
    try:
        os.kill(int(before["pid"]), 0)
    except (KeyError, ProcessLookupError, TypeError, ValueError):
        return True
    except OSError:
        return False
    return int(before["pid"]) == os.getpid()
