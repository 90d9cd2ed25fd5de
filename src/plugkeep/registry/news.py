"""Who is told of what happens to plugins, and in which order.

The events of one plugin reach every listener one after another, in the order in which they
happened: also those that a listener causes itself, and those that several threads cause at once.
So whoever finds another thread, or itself further out, at telling of a plugin leaves its own news
of that plugin to that one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plugkeep.signals import foreign

if TYPE_CHECKING:
    from plugkeep.events import Event
    from plugkeep.registry.ledger import Entry

    Listener = Callable[[Event], object]

ERROR = 40  # as `logging` has it, which is imported only when there is something to log


class News:
    """Events, and those who listen to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Replaced, never changed, so that reading them needs no lock.
        self.listeners: tuple[Listener, ...] = ()
        self._lasts: tuple[Listener, ...] = ()

    def subscribe(self, listener: Listener, *, last: bool = False) -> Callable[[], None]:
        """Add a listener; what is returned takes it away again, once.

        One that is `last` is told after those that are not. So what it does about an event
        happens after everybody else has heard of that.
        """
        own: Listener = lambda event: listener(event)  # noqa: E731  # told apart by identity
        with self._lock:
            if last:
                self._lasts = (*self._lasts, own)
                self.listeners = (*self.listeners, own)
            else:
                count = len(self.listeners) - len(self._lasts)
                self.listeners = (*self.listeners[:count], own, *self._lasts)

        def unsubscribe() -> None:
            with self._lock:
                self.listeners = tuple(each for each in self.listeners if each is not own)
                self._lasts = tuple(each for each in self._lasts if each is not own)

        return unsubscribe

    def note(
        self,
        entry: Entry,
        kind: str,
        duration: float | None = None,
        error: BaseException | None = None,
        **more: Any,
    ) -> None:
        """Put down what has happened, to be told later; nothing is told from here.

        Costs next to nothing, and imports nothing, when there is no listener.
        """
        if self.listeners:
            from plugkeep import events

            event = getattr(events, kind)(
                plugin=entry.name, time=time.time(), duration=duration, error=error, **more
            )
            entry.news.append(event)

    def tell(self, entry: Entry) -> None:
        """Tell all listeners what has been put down about a plugin."""
        while entry.news:
            with self._lock:
                if entry.is_told_of or not entry.news:
                    return
                entry.is_told_of = True
                event = entry.news.pop(0)
            try:
                self._tell(event)
            finally:
                entry.is_told_of = False

    def _tell(self, event: Event) -> None:
        raised: BaseException | None = None
        for listener in self.listeners:
            try:
                foreign(listener, event)
            except Exception as error:
                kind = type(event).__name__
                text = "a listener failed on %s of plugin %r"
                log(ERROR, text, kind, event.plugin, exc_info=error)
            except BaseException as error:  # the others are to hear of it all the same
                raised = raised or error
        if raised is not None:
            raise raised


def log(level: int, message: str, *args: object, exc_info: BaseException | None = None) -> None:
    """Log something; importing `logging` takes as long as all the rest, so only now."""
    import logging

    logging.getLogger("plugkeep.registry").log(level, message, *args, exc_info=exc_info)
