"""The zygote of this process: the host's side of `plugkeep.runner.zygote`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from plugkeep.channel.parcels import PATIENCE, pair, receive, send, written
from plugkeep.sandbox import preimports
from plugkeep.sandbox._process import Order
from plugkeep.sandbox.keeper.client import Keeper, Unanswered, keeper
from plugkeep.sandbox.keeper.kept import KeptProcess, Launched

#: What a command begins with that may as well be had by a fork.
RUNNER: Final = ("-P", "-m", "plugkeep.runner")
#: A zygote that has died so often without having done anything is not tried any more.
_TRIES: Final = 3
#: The beginnings of variables that act when an interpreter, or a library in it, comes up.
_EARLY: Final = (
    *("PYTHON", "LD_", "LC_", "LANG", "GLIBC_", "MALLOC_", "GCONV_PATH", "LOCPATH"),
    *("OMP_", "OPENBLAS_", "MKL_", "GOTO_", "BLIS_", "NUMEXPR_", "VECLIB_", "OPENSSL_", "SSL_"),
)
_logger = logging.getLogger("plugkeep.sandbox")


class NoFork(Exception):
    """Raised where a process cannot be had by a fork; the text, a part of a sentence, says why."""


class Death(NamedTuple):
    """How a zygote came to its end: what it said, and of which module it died, if of any."""

    words: str
    module: str
    why: str


class Zygote:
    """A warm interpreter, which forks."""

    def __init__(self, of: Keeper, modules: Sequence[str]) -> None:
        self.keeper = of
        self.modules = tuple(modules)
        self.early = _early(os.environ)
        self._lock = threading.Lock()
        self._death: Death | None = None
        with ExitStack() as theirs, ExitStack() as ours:
            self._control, its_control = pair()
            ours.callback(self._control.close)
            theirs.callback(its_control.close)
            self._printed, out = os.pipe()
            ours.callback(os.close, self._printed)
            theirs.callback(os.close, out)
            null = os.open(os.devnull, os.O_RDWR)
            theirs.callback(os.close, null)
            adopting, adoptions = pair()
            theirs.callback(adopting.close)
            theirs.callback(adoptions.close)
            of.adopt(adopting.fileno())
            ends = (null, out, out, its_control.fileno(), adoptions.fileno())
            command = (*RUNNER, "--zygote")
            environment = dict(os.environ)
            order = Order(sys.executable, command, environment, None, ends, plugin="(zygote)")
            self._process = KeptProcess(of.launch(order), None, self._printed, self._printed)
            ours.pop_all()
        self._have_imported(self.modules)

    def import_more(self, modules: Sequence[str]) -> None:
        """Have more modules imported before what is forked from now on."""
        more = [name for name in modules if name not in self.modules]
        self.modules = tuple(modules)
        if more:
            self._have_imported(more)

    def _have_imported(self, modules: Sequence[str]) -> None:
        body = written((list(sys.path), list(modules)))
        try:
            with suppress(ConnectionError):  # it has died already, as whoever asks it will see
                send(self._control, b"I", [body])
        finally:
            os.close(body)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What of this process belongs to it."""
        process = self._process
        return (self._control.fileno(), self._printed, process.descriptor, process.exit_fd)

    @property
    def held(self) -> set[str]:
        """What it has been told to import."""
        return set(self.modules)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def fork(self, order: Order) -> Launched:
        """Have a process forked. Raises OSError, and Unanswered."""
        try:
            return self.keeper.ask(
                order, lambda given: send(self._control, b"F" + order.label, given)
            )
        except (BlockingIOError, ConnectionError):
            raise Unanswered(late=False) from None

    def end(self) -> Death:
        """End it; return what it has died of, where it had died before."""
        with self._lock:
            if self._death is None:
                module, why = "", ""
                with suppress(OSError):
                    words, _ = receive(self._control)
                    module, _, why = words.decode().partition("\n")
                self._death = Death(self._last_words(), module if why else "", why)
                self._close()
            return self._death

    def _close(self) -> None:
        self._process.kill(signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process.collect()
        self._control.close()
        os.close(self._printed)

    def _last_words(self) -> str:
        """Return how it ended, and what it printed before it was at work."""
        self._process.wait(1.0)
        with suppress(OSError):
            if text := os.read(self._printed, 64 * 1024).decode("utf-8", "replace").strip():
                return text.splitlines()[-1]
        return f"it {self._process.peek() or 'does not answer'}"

    def disown(self) -> None:
        """Leave it to our parent, of which this process is a forked copy."""
        self._control.close()


class _Nursery:
    """Which zygote there is, and what has been learned from those before it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.zygote: Zygote | None = None
        self.unfit: dict[str, str] = {}
        self.deaths = 0

    def fork(self, order: Order) -> Launched:
        """Have a process forked; where a module has killed the zygote, by one without it."""
        while True:
            zygote = self._serving(keeper())
            if _early(order.environment) != zygote.early:
                names = sorted(dict(_early(order.environment) ^ zygote.early))
                text = "its environment has %s of its own, which must be there from the start"
                raise NoFork(text % ", ".join(names))
            try:
                launched = zygote.fork(order)
            except Unanswered as unanswered:
                self._bury(zygote, unanswered)
            else:
                self.deaths = 0
                return launched

    def _serving(self, current: Keeper) -> Zygote:
        with self.lock:
            if self.deaths >= _TRIES:
                raise NoFork(f"the zygote has died {_TRIES} times in a row")
            modules = [name for name in preimports.wanted() if name not in self.unfit]
            zygote = self.zygote
            if zygote is not None and zygote.keeper is current and set(modules) > zygote.held:
                zygote.import_more(modules)
            if zygote is None or zygote.keeper is not current or zygote.held != set(modules):
                if zygote is not None:
                    zygote.end()
                self.zygote = None
                self.zygote = zygote = Zygote(current, modules)
            return zygote

    def _bury(self, zygote: Zygote, unanswered: Unanswered) -> None:
        """Raises NoFork, unless it has died of a module that the next one will not import."""
        with self.lock:
            is_news = self.zygote is zygote  # others may have asked it, too
            if is_news:
                self.zygote = None
            death = zygote.end()
            if not death.module:
                self.deaths += is_news
                words = "it did not answer in time" if unanswered.late else death.words
                raise NoFork(f"the zygote has died: {words}")
            module, why = death.module, death.why
            if module not in self.unfit:
                self.unfit[module] = why
                text = "module %r is not imported before plugins are forked: it %s"
                level = logging.WARNING if preimports.was_asked_for(module) else logging.INFO
                _logger.log(level, text, module, why)


def _early(environment: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(pair for pair in environment.items() if pair[0].startswith(_EARLY))


_nursery = _Nursery()


def fork(order: Order) -> Launched:
    """Have a process forked that is as if `order` had been launched. Raises NoFork, and OSError."""
    return _nursery.fork(order)


def zygote() -> Zygote | None:
    """Return the one that there is."""
    return _nursery.zygote


def _disown() -> None:
    global _nursery
    if _nursery.zygote is not None:
        _nursery.zygote.disown()
    _nursery = _Nursery()


os.register_at_fork(after_in_child=_disown)
