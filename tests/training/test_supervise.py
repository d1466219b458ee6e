"""A signal is noted and said; only a second Ctrl-C acts."""

import signal

import pytest

from mgnet_jax.training.supervise import StopSignal


@pytest.mark.parametrize("number", StopSignal.SIGNALS)
def test_a_signal_is_noted_and_said(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(s) for s in StopSignal.SIGNALS]
    with StopSignal() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number
        assert "stopping after the steps under way" in capfd.readouterr().err
        signal.raise_signal(signal.SIGTERM)  # schedulers may repeat it
        assert stop.received == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(s) for s in StopSignal.SIGNALS] == before


def test_without_a_signal_the_handlers_come_back() -> None:
    before = [signal.getsignal(s) for s in StopSignal.SIGNALS]
    with StopSignal():
        assert [signal.getsignal(s) for s in StopSignal.SIGNALS] != before
    assert [signal.getsignal(s) for s in StopSignal.SIGNALS] == before
