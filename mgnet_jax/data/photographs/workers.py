"""Work for several processes, which end when their parent does, however that ends.

A worker starts anew (spawn), so that it has no JAX and no threads of its parent.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task, Callable[[], None]], Result]
"""Does a task, and calls its second argument for each part of it that is done."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # the parent's to answer
_work: Any = None  # of a worker
_counts: Any = None
_slot = 0


class WorkerError(RuntimeError):
    """A worker process ended in the middle of its work."""

    exit_code = 1


def run(
    work: Work[Task, Result],
    tasks: Iterable[Task],
    processes: int,
    finished: Callable[[Result], None],
    progress: Callable[[int], None],
) -> None:
    """Does tasks in worker processes; returns when all are done.

    If anything raises, here or in a worker, the others are ended at once and it is raised.

    Args:
      work: what does a task; sent to each worker once.
      tasks: sent one by one.
      processes: how many workers there are at most, at least 1.
      finished: called with the result of each task, in the order that they end.
      progress: called every quarter of a second with how many parts are done.

    Raises:
      WorkerError: a worker was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    life, ours = spawn.Pipe(duplex=False)  # workers live until the end that is ours closes
    counts, slots = spawn.RawArray("q", processes), spawn.SimpleQueue()
    for slot in range(processes):
        slots.put(slot)
    pool = ProcessPoolExecutor(
        processes, spawn, initializer=_begin, initargs=(life, counts, slots, work)
    )
    with _noted(_SIGNALS) as received:
        try:
            with _held(_SIGNALS):  # workers inherit that, and start with the first tasks
                waiting = {pool.submit(_do, task) for task in tasks}
            while waiting and not received:
                done, waiting = wait(waiting, timeout=0.25, return_when=FIRST_COMPLETED)
                progress(sum(counts))
                for future in done:
                    finished(future.result())
            if not received:
                pool.shutdown()
        except BrokenProcessPool as error:
            raise WorkerError(
                "a worker process was killed, perhaps since memory is short: what is finished is "
                "kept, and the same command goes on, with fewer --processes if need be"
            ) from error
        finally:
            ours.close()
            pool.shutdown(cancel_futures=True)
            life.close()


@contextlib.contextmanager
def _noted(signals: Iterable[signal.Signals]) -> Iterator[list[int]]:
    """Notes signals until the end, and answers the first of them there as it was before.

    An exception of a handler could come while the pool holds locks, and never be done with them.
    Signals that are ignored, as SIGINT is in the background, or that end the process are left so.

    Raises:
      KeyboardInterrupt: one came, and its handler raised nothing.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # no signals arrive here
        yield received
        return
    before = {s: handler for s in signals if callable(handler := signal.getsignal(s))}
    for number in before:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        before[signal.Signals(received[0])](received[0], None)
        raise KeyboardInterrupt


@contextlib.contextmanager
def _held(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Holds signals back until the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(life: Connection, counts: Any, slots: Any, work: Any) -> None:
    """Makes this process a worker."""
    global _work, _counts, _slot
    serve_until(lambda: life.poll(None))  # the other end closes; nothing is ever sent
    warnings.simplefilter("ignore")  # of libraries, about odd files
    _work, _counts, _slot = work, counts, slots.get()


def serve_until(over: Callable[[], object]) -> None:
    """Makes this process one whose parent answers signals for it, and which ends with its work.

    Args:
      over: returns when the work is over, however that came; then this process ends at once.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)

    def end() -> None:
        over()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _do(task: Any) -> Any:
    """Does a task, in a worker."""
    return _work(task, _tick)


def _tick() -> None:
    """Counts a part that is done; no other process writes that number."""
    _counts[_slot] += 1
