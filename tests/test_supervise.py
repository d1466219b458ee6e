"""A first signal is noted, a second one acts as usual."""

import signal

import pytest

from mgnet_jax.supervise import StopSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_once(number: signal.Signals) -> None:
    before = [signal.getsignal(s) for s in StopSignal.SIGNALS]
    with StopSignal() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number
        assert [signal.getsignal(s) for s in StopSignal.SIGNALS] == before
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(s) for s in StopSignal.SIGNALS] == before


def test_without_a_signal_the_handlers_come_back() -> None:
    before = [signal.getsignal(s) for s in StopSignal.SIGNALS]
    with StopSignal():
        assert [signal.getsignal(s) for s in StopSignal.SIGNALS] != before
    assert [signal.getsignal(s) for s in StopSignal.SIGNALS] == before
