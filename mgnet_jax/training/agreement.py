"""What all processes of a run do next: they decide it together, between the compiled calls.

Each says before a call whether it was told to stop or could not read its images, and how many steps
it would like the next call to have. The answer is computed on the devices, in order with the calls,
so that nobody waits for it longer than for the call before.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mgnet_jax.data.info import DataError
from mgnet_jax.data.photographs.workers import WorkerError
from mgnet_jax.training import processes, sharding, watch
from mgnet_jax.training.feed import Feed
from mgnet_jax.training.measures import Metrics

UNREADABLE = DataError, OSError, WorkerError  # of an input that was there at the start
FAILED = 1000  # above any signal


class ElsewhereError(DataError):
    """Another process could not read its images."""


@lru_cache(maxsize=4)
def _compiled(mesh: Mesh) -> Any:
    def agree(wishes: jax.Array, count: jax.Array, after: jax.Array) -> tuple[jax.Array, jax.Array]:
        halt, steps = jnp.max(wishes[:, 0]), jnp.min(wishes[:, 1])
        answer = jnp.stack([halt, steps, jnp.sign(after)])  # it is computed after `after`
        return jnp.where(halt == FAILED, 0, count), answer

    same = sharding.replicated(mesh)
    return jax.jit(agree, in_shardings=(sharding.batch(mesh), same, same), out_shardings=same)


class Agreement:
    """Of one process alone it is what that process wants.

    Args:
      mesh: devices.
      stopped: gives the signal that came, or 0.

    Attributes:
      halt: the signal that came to any process, or 0, as all know it.
    """

    def __init__(self, mesh: Mesh, stopped: Callable[[], int] = lambda: 0):
        self.mesh, self.stopped = mesh, stopped
        self._several = processes.several()
        self._halt, self._steps = 0, 1
        self._pending: list[tuple[int, jax.Array]] = []
        self._lost: int | None = None
        self._error: BaseException | None = None

    def anew(self) -> "Agreement":
        """One for other calls."""
        return Agreement(self.mesh, self.stopped)

    @property
    def halt(self) -> int:
        """See the class."""
        return self._halt if self._several else self.stopped()

    def steps(self, wanted: int) -> int:
        """How many steps the next call has, if this process would like so many."""
        return self._steps if self._several else wanted

    def arrays(self, feed: Feed, start: int, count: int, batch_size: int) -> Any:
        """What a call needs, see `Feed.arrays`; of images that cannot be read what is not used."""
        if self._error is None:
            try:
                return feed.arrays(start, count)
            except UNREADABLE as error:
                if not self._several:
                    raise
                self._error = error
        like = feed.abstract(batch_size)
        return jax.tree.map(lambda x: sharding.place(np.zeros(x.shape, x.dtype), x.sharding), like)

    def count(self, count: int, wanted: int, start: int, before: Metrics) -> Any:
        """The steps of a call: those asked for, or 0 if a process could not read its images.

        Args:
          count: asked for, the same in all processes.
          wanted: for the next call.
          start: the first step.
          before: what the call before gives.
        """
        if not self._several:
            return np.int32(count)
        wish = np.array([[FAILED if self._error else self.stopped(), wanted]], np.int32)
        shape = (self.mesh.devices.size, 2)
        wishes = jax.make_array_from_callback(shape, sharding.batch(self.mesh), lambda _: wish)
        agreed, answer = _compiled(self.mesh)(wishes, np.int32(count), before.count)
        self._pending.append((start, answer))
        return agreed

    def read(self) -> int | None:
        """Learns what was agreed on; the first step that was not done, if a process failed."""
        for start, answer in self._pending:
            halt, self._steps, _ = map(int, np.asarray(answer))
            if halt == FAILED:
                self._lost = start if self._lost is None else self._lost
            else:
                self._halt = max(self._halt, halt)
        self._pending.clear()
        watch.alive()
        return self._lost

    def failure(self) -> BaseException:
        """Why steps were not done: this process's own error, or that it was another's."""
        return self._error or ElsewhereError("another process could not read its images, see there")
