"""A batch that comes while the device still computes costs no time."""

import threading
import time

from mgnet_jax.training.idle import Idle


class Call:
    """A result that is there when it is told to."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def block_until_ready(self) -> "Call":
        self.over.wait(10)
        return self


def eventually(idle: Idle) -> None:
    assert idle._end is not None
    idle._end.result(10)


def test_only_what_the_device_waits_for_counts() -> None:
    idle, first, second = Idle(), Call(), Call()
    idle.dispatched(10.0, 12.0, first)  # nothing ran: all of it
    assert idle.seconds == 2
    now = time.monotonic()
    idle.dispatched(now - 5, now, second)  # the first still runs
    assert idle.seconds == 2
    first.over.set()
    second.over.set()
    eventually(idle)
    ended = time.monotonic()
    idle.dispatched(ended - 100, ended + 3, Call())  # from its end, not from when it was asked for
    assert 3 <= idle.seconds - 2 < 4
    idle.close()


def test_a_batch_asked_for_after_the_end_counts_from_then() -> None:
    idle, call = Idle(), Call()
    call.over.set()
    idle.dispatched(0.0, 0.0, call)
    eventually(idle)
    later = time.monotonic() + 50
    done = Call()
    done.over.set()
    idle.dispatched(later, later + 1, done)
    assert abs(idle.seconds - 1) < 1e-6
    idle.close()
