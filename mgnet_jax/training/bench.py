"""How fast training is on this machine: the input alone, the step alone, both; and compiling."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from mgnet_jax.data.sources import DataSet
from mgnet_jax.models import Costs
from mgnet_jax.training.job import Job

PRODUCT_S = 0.05  # seconds that a matrix product takes at least, for its rate to be one


@dataclasses.dataclass(frozen=True)
class Rates:
    """Images a second, once for each repeat."""

    of_repeats: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.of_repeats)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "median": self.median,
            "least": min(self.of_repeats),
            "most": max(self.of_repeats),
            "repeats": list(self.of_repeats),
        }


@dataclasses.dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes:
      compile_cold: seconds to trace and compile the training step, with an empty cache.
      compile_warm: the same with the programs of the first time in the cache.
      input: batches made and put on the device, nothing computed. Of a set that lies on the device
        these are indices of images.
      step: steps on batches that are there already.
      both: as in training, one call under way while the next one's batches are made.
      waiting: share of the time of `both` that was spent on waiting for batches.
      flops: of one image, forward and backward: 6 for each multiply-add of a forward pass.
      matrix_peak: FLOP/s of large matrix products in the network's type, all devices together.
      memory: bytes on a device at the most.
      memory_source: who says so.
    """

    compile_cold: float
    compile_warm: float
    input: Rates
    step: Rates
    both: Rates
    waiting: float
    flops: float
    matrix_peak: float
    memory: int
    memory_source: str

    @property
    def flops_per_second(self) -> float:
        """Of the step alone."""
        return self.step.median * self.flops

    @property
    def share_of_peak(self) -> float:
        """Of matrix products' speed, from 0 to 1."""
        return self.flops_per_second / self.matrix_peak


class _Run:
    """A training that goes on from step to step."""

    def __init__(self, job: Job):
        self.job, self.feed = job, job.train_feed
        self.state, self.metrics = job.initial_state(), job.no_metrics()
        self.at, self.waited = 0, 0.0

    def close(self) -> None:
        """Ends what reads ahead."""
        self.feed.close()

    def _range(self, most: int) -> tuple[int, int]:
        """The next steps, of one epoch."""
        begin, epoch = self.at, self.job.steps_per_epoch
        self.at = min(begin + most, begin - begin % epoch + epoch)
        return begin, self.at

    def _images(self, begin: int, end: int) -> int:
        return sum(self.job.batches.of_step(i) for i in range(begin, end))

    def input(self, most: int) -> int:
        """Makes the batches of the next steps; the number of their images."""
        begin, end = self._range(most)
        for _, start, stop in self.job.batches.same_size(begin, end):
            jax.block_until_ready(self.feed.arrays(start, stop - start))
        return self._images(begin, end)

    def both(self, most: int) -> int:
        """The next steps, as training does them; waits for those before."""
        begin, end = self._range(most)
        before = self.metrics.count
        self.state, self.metrics = self.job.train_steps(self.state, self.metrics, begin, end)
        jax.block_until_ready(before)
        self.waited += self.feed.came - self.feed.asked
        return self._images(begin, end)

    def step(self, arrays: Any, count: int) -> int:
        """Steps on batches that are there."""
        size = self.job.batches.batch_size
        call = self.job.train_chunks[size]
        self.state, self.metrics = call(
            self.state, self.metrics, arrays, np.int32(count), self.job.step_rng
        )
        jax.block_until_ready(self.metrics.count)
        return count * size


def measure(config: ConfigDict, data: DataSet, costs: Costs, seconds: float, repeats: int) -> Bench:
    """Measures a configuration, see `Bench`; with images as large as they are in the end.

    Args:
      config: validated.
      data: its data set.
      costs: of its network.
      seconds: that each repeat of each measurement takes at least.
      repeats: of the input, of the step, and of both.
    """
    whole = config.copy_and_resolve_references()
    whole.data.update(small_size=0, small_epochs=0)
    cold, warm, job = compile_times(whole, data)
    run = _Run(job)
    try:
        one = run.feed.arrays(0, 1)
        run.step(one, 1)  # the first one takes longer
        begun = time.perf_counter()
        run.step(one, 1)
        wanted = round(seconds / (time.perf_counter() - begun))
        count = max(1, min(wanted, job.train_feed.most_steps))
        arrays = run.feed.arrays(0, count)
        step = _rates(lambda: run.step(arrays, count), seconds, repeats)
        of_input = _rates(lambda: run.input(count), seconds, repeats)
        run.at = 0
        run.both(1)
        jax.block_until_ready(run.metrics.count)
        run.waited, begun = 0.0, time.perf_counter()
        both = _rates(lambda: run.both(count), seconds, repeats)
        waiting = run.waited / (time.perf_counter() - begun)
    finally:
        run.close()
    memory, source = peak_memory(job)
    return Bench(
        compile_cold=cold,
        compile_warm=warm,
        input=of_input,
        step=step,
        both=both,
        waiting=waiting,
        flops=6.0 * costs.macs,
        matrix_peak=matrix_peak(config.model.dtype, seconds) * job.mesh.devices.size,
        memory=memory,
        memory_source=source,
    )


def compile_times(config: ConfigDict, data: DataSet) -> tuple[float, float, Job]:
    """Seconds to trace and compile the training step, without and with its programs in a cache.

    Also gives the `Job` that has it.
    """
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in names}
    times = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for value, name in zip((folder, 0.0), names, strict=True):
                jax.config.update(name, value)
            for _ in range(2):
                job = Job(config, data)
                job.train_feed.abstract(job.batches.batch_size)
                _ = job.abstract_state, job.no_metrics()
                jax.clear_caches()
                compilation_cache.reset_cache()
                begun = time.perf_counter()
                _ = job.train_chunks
                times.append(time.perf_counter() - begun)
        finally:
            for name in names:
                jax.config.update(name, before[name])
            compilation_cache.reset_cache()
    return times[0], times[1], job


def _rates(call: Callable[[], int], seconds: float, repeats: int) -> Rates:
    """Images a second; each repeat is as many calls as take that many seconds."""
    call()
    rates = []
    for _ in range(repeats):
        begun, images = time.perf_counter(), 0
        while time.perf_counter() < begun + seconds or not images:
            images += call()
        rates.append(images / (time.perf_counter() - begun))
    return Rates(tuple(rates))


def matrix_peak(dtype: str, seconds: float) -> float:
    """FLOP/s of large square matrix products on the first device, the best of some sizes."""
    best, size = 0.0, 512
    while size <= 16384:
        matrix = jnp.ones((size, size), dtype)
        product = jax.jit(jnp.matmul)
        product(matrix, matrix).block_until_ready()
        begun, count, passed = time.perf_counter(), 0, 0.0
        while passed < seconds / 4:
            product(matrix, matrix).block_until_ready()
            count, passed = count + 1, time.perf_counter() - begun
        best = max(best, 2.0 * size**3 * count / passed)
        if passed / count > PRODUCT_S:
            break
        size *= 2
    return best


def peak_memory(job: Job) -> tuple[int, str]:
    """Bytes on a device at the most, and who says so."""
    stats = job.mesh.devices.flat[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "the device, of this process so far"
    memory: Any = job.train_chunks[job.batches.batch_size].memory_analysis()
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    total = memory.argument_size_in_bytes + new + memory.temp_size_in_bytes
    return total, "the compiler, of the training step"
