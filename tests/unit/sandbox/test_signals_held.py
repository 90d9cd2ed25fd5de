from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from plugkeep.sandbox._signals import SignalsHeld


class Terminated(BaseException):
    """What the host of these tests makes of SIGTERM."""


@pytest.fixture(autouse=True)
def raising_handlers() -> Iterator[None]:
    def terminate(*_: object) -> None:
        raise Terminated

    old = signal.signal(signal.SIGTERM, terminate), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    signal.signal(signal.SIGTERM, old[0])
    signal.signal(signal.SIGINT, old[1])


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_waits_for_the_end_of_the_block(
    number: signal.Signals, error: type[BaseException]
) -> None:
    done = False
    with pytest.raises(error), SignalsHeld():
        signal.raise_signal(number)
        done = True
    assert done


def test_blocks_within_blocks_wait_for_the_outermost() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), SignalsHeld():
        with SignalsHeld():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_the_blocks_own_error_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, SignalsHeld():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("the block's own")
    assert isinstance(caught.value.__context__, ValueError)


def test_ignored_signals_stay_ignored() -> None:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with SignalsHeld():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, handler)


def test_on_other_threads_there_is_nothing_to_hold() -> None:
    """Handlers run on the main thread only, and only it may change them."""
    failures = []

    def work() -> None:
        try:
            with SignalsHeld():
                pass
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures


def test_a_signal_that_comes_while_others_are_given_back_loses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fixture sees to it that both have their own handlers again."""
    from plugkeep.sandbox import _signals

    set_handler = _signals._signal.signal
    once = [signal.SIGINT]

    def set_and_raise(number: int, handler: object) -> object:
        result = set_handler(number, handler)
        if number in once:
            signal.raise_signal(once.pop())
        return result

    held = SignalsHeld()
    held.__enter__()
    monkeypatch.setattr(_signals._signal, "signal", set_and_raise)
    with pytest.raises(KeyboardInterrupt):
        held.__exit__(None, None, None)
    monkeypatch.undo()
