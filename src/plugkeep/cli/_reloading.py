"""``plugkeep run --reload``: what has changed is reloaded, while the rest goes on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self

from plugkeep.cli._output import endless
from plugkeep.cli._watching import Watch
from plugkeep.errors import LifecycleError, PluginError
from plugkeep.events import ReloadFailed
from plugkeep.host.refresh import concerned, of_the_host, refresh
from plugkeep.loaders.places import Place, places_of

if TYPE_CHECKING:
    from plugkeep.cli._story import Story
    from plugkeep.config import HostConfig
    from plugkeep.events import Event
    from plugkeep.host import Host
    from plugkeep.host.drivers import Driver
    from plugkeep.spec import PluginSpec

log = logging.getLogger("plugkeep.cli")


class Reloading:
    """Reloads plugins whose files change, and has them be what the host's file says by then.

    `config` is what that says so far; `read` reads it again, and raises ConfigError.
    """

    def __init__(
        self, host: Host, config: HostConfig, read: Callable[[], HostConfig], story: Story
    ) -> None:
        self._host, self._read, self._story = host, read, story
        #: Unless it is a pipe, which nobody can read again.
        self._file = {os.path.abspath(config.path)} if os.path.isfile(config.path) else set()  # noqa: PTH100, PTH113
        self._host_table = config
        #: What the file says by now, and whether any of that is still to be done.
        self._wanted: dict[str, PluginSpec] = {}
        self._owes = False
        self._places: dict[str, list[Place]] = {}
        self._told: list[BaseException | None] = []
        self._watch = Watch()

    def __enter__(self) -> Self:
        try:
            self._look()
        except BaseException:
            self._watch.close()
            raise
        self._unsubscribe = self._host.registry.subscribe(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._unsubscribe()
        self._watch.close()

    def fileno(self) -> int:
        """See `Duty`."""
        return self._watch.fileno()

    def attend(self, driver: Driver) -> None:
        """See `Duty`: reload what has changed. What fails is told, and goes on as it was."""
        paths = self._watch.take()
        found = concerned(paths, self._places)
        written = [path for path in paths if path in self._files()]
        self._owes |= bool(written)
        if found.lasting:
            log.warning("seen by the next run, for it is several plugins', or can be loaded only "
                        "once: %s", ", ".join(_shown(found.lasting)))  # fmt: skip
        hands = _Hands(self._host, driver, self._failed)
        code = _shown(path for path in paths if concerned([path], self._places).plugins)
        if self._owes and (written or code):
            self._story.changed(_shown(written) or code, ())
            self._refresh(hands)
        again = [name for name in found.plugins if self._is_due(name, hands)]
        if again:
            self._story.changed(code, again)
        for name in again:
            hands.try_to_reload(name)
        self._told.clear()
        self._look_again()
        endless(until_signal=True)  # that a plugin has been stopped meanwhile was not the end

    def _is_due(self, name: str, hands: _Hands) -> bool:
        return name in self._host.specs and name not in hands.reloaded

    def _refresh(self, hands: _Hands) -> None:
        try:
            config = self._read()
            self._wanted = {spec.name: spec for spec in config.plugins}
            errors = refresh(self._host, config, hands)
        except PluginError as misfit:
            errors = [misfit]
        else:
            keys = of_the_host(self._host_table, config)
            if keys:
                log.warning("[host] %s: seen by the next run", ", ".join(keys))
            self._host_table = config
        self._owes = bool(errors)
        for error in errors:
            if not self._is_told(error):
                self._story.rejected(error)

    def _failed(self, name: str, error: PluginError) -> None:
        if not self._is_told(error):
            self._story(ReloadFailed(plugin=name, time=time.time(), error=error))
            self._told.append(error)

    def _note(self, event: Event) -> None:
        if event.error is not None:
            self._told.append(event.error)

    def _is_told(self, error: PluginError) -> bool:
        return any(each is error for each in self._told)

    # --- where there is something to be seen ------------------------------------------------

    def _files(self) -> set[str]:
        """Return the host's file, and those with which plugins in folders say what they are."""
        specs = (*self._host.specs.values(), *self._wanted.values())
        manifests = {spec.origin for spec in specs if _has_manifest(spec)}
        return self._file | manifests

    def _look(self) -> None:
        specs = {**self._wanted, **self._host.specs}
        order = [name for name in self._order() if name in specs]
        names = dict.fromkeys((*order, *specs))
        self._places = {
            name: places_of(specs[name], [each for each in specs.values() if each.name != name])
            for name in names
        }
        places = [place for each in self._places.values() for place in each]
        try:
            self._watch.look_at((*places, *map(Place, self._files())))
        except OSError as error:
            raise LifecycleError(f"files cannot be watched: {error}") from error

    def _look_again(self) -> None:
        try:
            self._look()
        except PluginError as error:
            log.error("%s; what changes there is not seen", error)  # noqa: TRY400

    def _order(self) -> list[str]:
        try:
            return self._host.registry.start_order()
        except PluginError:  # something that is required is missing
            return self._host.registry.names()


class _Hands:
    """Has things done by what drives the plugins; see `plugkeep.host.refresh.Hands`."""

    def __init__(
        self, host: Host, driver: Driver, failed: Callable[[str, PluginError], object]
    ) -> None:
        self._host, self._driver, self._failed = host, driver, failed
        #: Those that a reload has been tried of.
        self.reloaded: set[str] = set()

    def do(self, verb: str, name: str) -> object:
        return self._driver.do(verb, name)

    def reload(self, name: str) -> None:
        self.reloaded.add(name)
        host = self._host
        try:
            self._driver.call(host.reload if self._driver.is_on_main else host.areload, name)
        except PluginError as error:
            self._failed(name, error)
            raise

    def try_to_reload(self, name: str) -> None:
        try:
            self.reload(name)
        except PluginError:  # told
            return
        except Exception:
            log.exception("reloading plugin %r", name)


def _has_manifest(spec: PluginSpec) -> bool:
    return bool(spec.base) and os.path.dirname(spec.origin) == spec.base  # noqa: PTH120


def _shown(paths: Iterable[str]) -> list[str]:
    """Return paths as a user in the current folder would write them."""
    here = os.getcwd()  # noqa: PTH109
    inside = f"{here}{os.sep}"
    return sorted(path.removeprefix(inside) for path in paths)
