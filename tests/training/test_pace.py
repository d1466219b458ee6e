"""Calls grow to about a second, and shrink at once when steps take longer."""

from mgnet_jax.training.pace import Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def calls(seconds_of: list[float], pace: Pace, clock: Clock) -> list[int]:
    """How many steps each call gets when a step takes so long in it."""
    steps = []
    for seconds in seconds_of:
        steps.append(pace.steps)
        clock.now += pace.steps * seconds
        pace.ended(pace.steps)
    return steps


def test_calls_double_until_they_take_a_second() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    assert calls([0.1] * 7, pace, clock) == [1, 2, 4, 8, 10, 10, 10]
    assert calls([0.5, 0.5, 0.5], pace, clock) == [10, 2, 2]
    assert calls([3.0, 3.0], pace, clock) == [2, 1]


def test_time_between_calls_does_not_count() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    calls([0.1] * 5, pace, clock)
    clock.now += 1000
    pace.begin()
    assert calls([0.1, 0.1], pace, clock) == [10, 10]


def test_steps_that_take_no_time_at_all_still_double_only() -> None:
    clock = Clock()
    assert calls([0.0] * 5, Pace(clock=clock), clock) == [1, 2, 4, 8, 16]
