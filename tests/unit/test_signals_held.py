from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from plugkeep.signals import SignalsHeld, foreign


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
    from plugkeep import signals

    set_handler = signals._signal.signal
    once = [signal.SIGINT]

    def set_and_raise(number: int, handler: object) -> object:
        result = set_handler(number, handler)
        if number in once:
            signal.raise_signal(once.pop())
        return result

    held = SignalsHeld()
    held.__enter__()
    monkeypatch.setattr(signals._signal, "signal", set_and_raise)
    with pytest.raises(KeyboardInterrupt):
        held.__exit__(None, None, None)
    monkeypatch.undo()


def test_foreign_code_hears_signals_at_once() -> None:
    done = []

    def wait() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("foreign code went on")

    with SignalsHeld():
        with pytest.raises(KeyboardInterrupt):
            foreign(wait)
        done.append("held again")
    assert done == ["held again"]


def test_what_was_held_is_heard_when_foreign_code_begins() -> None:
    done = []
    with SignalsHeld():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            foreign(lambda: done.append("ran"))
    assert done == []


def test_after_a_handler_has_raised_signals_are_held_again() -> None:
    done = []
    with pytest.raises(Terminated), SignalsHeld():
        with pytest.raises(KeyboardInterrupt):
            foreign(lambda: signal.raise_signal(signal.SIGINT))
        signal.raise_signal(signal.SIGTERM)
        done.append("held")
    assert done == ["held"]


def test_a_handler_that_does_not_raise_lets_foreign_code_go_on() -> None:
    heard = []
    handler = signal.signal(signal.SIGINT, lambda *_: heard.append("here"))

    def twice() -> str:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return "done"

    with SignalsHeld():
        assert foreign(twice) == "done"
        assert len(heard) == 2
    signal.signal(signal.SIGINT, handler)


def test_a_block_within_foreign_code_holds() -> None:
    done = []

    def section() -> None:
        with SignalsHeld():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")

    with SignalsHeld():
        with pytest.raises(KeyboardInterrupt):
            foreign(section)
        done.append("outer")
    assert done == ["inner", "outer"]


def test_a_handler_that_foreign_code_sets_stays() -> None:
    def own(*_: object) -> None: ...

    before = signal.getsignal(signal.SIGINT)
    with SignalsHeld():
        foreign(signal.signal, signal.SIGINT, own)
    assert signal.getsignal(signal.SIGINT) is own
    signal.signal(signal.SIGINT, before)


def test_a_handler_of_a_block_that_is_over_is_not_put_back_by_the_next() -> None:
    """A plugin that remembers the handler in its start, and restores it in its stop."""
    before = signal.getsignal(signal.SIGINT)
    for _ in range(3):
        with SignalsHeld():
            remembered = foreign(signal.getsignal, signal.SIGINT)
        with SignalsHeld():
            foreign(signal.signal, signal.SIGINT, remembered)
    with SignalsHeld():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_what_is_let_through_within_blocks_comes_through_all_of_them() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), SignalsHeld():
        try:
            with SignalsHeld():
                foreign(signal.raise_signal, signal.SIGINT)
                done.append("never")
        finally:
            signal.raise_signal(signal.SIGINT)  # what clears up is not cut in two
            done.append("cleared up")
    assert done == ["cleared up"]
