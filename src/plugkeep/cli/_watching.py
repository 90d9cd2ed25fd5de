"""Being told that files change; by watchfiles, which asks the system to tell."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from plugkeep.errors import MissingExtraError

if TYPE_CHECKING:
    from plugkeep.loaders.places import Place

#: Seconds without another change after which those before are told: editors and compilers write
#: several files. And how long they may go on before they are told all the same.
_QUIET: Final = 0.15
_BURST: Final = 2.0
#: Milliseconds between two looks at what the system has told.
_STEP: Final = 50
#: Names of folders in which nobody writes code.
_PASSED_OVER: Final = ("__pycache__", ".git", ".hg", "node_modules")


class Watch:
    """Collects the paths of files that change, and can be waited for with `select`."""

    def __init__(self) -> None:
        self._rust = _import_watcher()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._latest = 0.0
        self._watched: frozenset[tuple[str, bool, int]] = frozenset()
        self._stop = threading.Event()
        self._watchers: list[tuple[Any, threading.Thread]] = []

    def fileno(self) -> int:
        """Return a descriptor that can be read from when files have changed."""
        return self._reader

    def take(self) -> list[str]:
        """Return the paths of files that have changed since this was asked last.

        It waits until no more come, for a while: what is written together is told together.
        """
        end = time.monotonic() + _BURST
        while (now := time.monotonic()) < min(self._latest + _QUIET, end):
            time.sleep(min(self._latest + _QUIET, end) - now)
        with self._lock:
            changed, self._changed = self._changed, set()
            try:
                while os.read(self._reader, 512):
                    pass
            except BlockingIOError:
                return sorted(changed)
        return sorted(changed)

    def look_at(self, places: Iterable[Place]) -> None:
        """Watch these places from now on, and no others.

        A file is watched by its folder, for many an editor puts another file in its place. Raises
        OSError where the system does not let us.
        """
        wanted = _folders(places)
        if wanted == self._watched:
            return
        stop, watchers = threading.Event(), []
        try:
            for deep in (False, True):
                folders = sorted(path for path, is_deep, _ in wanted if is_deep is deep)
                if folders:
                    watchers.append(self._begin(folders, stop, deep=deep))
        except BaseException:
            _end(stop, watchers)
            raise
        _end(self._stop, self._watchers)  # last, so that nothing is missed in between
        self._stop, self._watchers, self._watched = stop, watchers, wanted

    def close(self) -> None:
        """Watch nothing any more; no thread is left, or only ones that end by themselves."""
        _end(self._stop, self._watchers)
        os.close(self._reader)
        os.close(self._writer)

    def _begin(
        self, folders: list[str], stop: threading.Event, *, deep: bool
    ) -> tuple[Any, threading.Thread]:
        polling = os.environ.get("WATCHFILES_FORCE_POLLING", "").lower() not in ("", "0", "false")
        watcher = self._rust(folders, False, polling, 300, deep, True)
        thread = threading.Thread(
            target=self._follow, args=(watcher, stop), name="plugkeep-watch", daemon=True
        )
        thread.start()
        return watcher, thread

    def _follow(self, watcher: Any, stop: threading.Event) -> None:
        while True:
            found = watcher.watch(2 * _STEP, _STEP, 0, stop)
            if isinstance(found, str):  # "stop"
                return
            self._note({path for _, path in found if not _is_passed_over(path)})

    def _note(self, paths: set[str]) -> None:
        with self._lock:
            if paths and not self._changed:
                os.write(self._writer, b"!")
            self._changed |= paths
            self._latest = time.monotonic() if paths else self._latest


def _import_watcher() -> Any:
    try:
        from watchfiles._rust_notify import RustNotify
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "reloading what has changed needs watchfiles, which is not installed; "
            "install it with: pip install 'plugkeep[reload]'",
            source="watchfiles",
        ) from error
    return RustNotify


def _end(stop: threading.Event, watchers: Iterable[tuple[Any, threading.Thread]]) -> None:
    stop.set()
    for watcher, thread in watchers:
        thread.join()
        watcher.close()


def _folders(places: Iterable[Place]) -> frozenset[tuple[str, bool, int]]:
    """Return the folders to be watched, whether to any depth, and which they are.

    Of one that has been exchanged for another of its name, only that tells.
    """
    folders = set()
    for place in places:
        # The folder around a folder as well: it tells when that one comes or goes.
        for path, deep in ((os.path.dirname(place.path), False), (place.path, True)):  # noqa: PTH120
            if (place.is_folder or not deep) and os.path.isdir(path):  # noqa: PTH112
                folders.add((path, deep, os.stat(path).st_ino))  # noqa: PTH116
    return frozenset(each for each in folders if each[1] or (each[0], True, each[2]) not in folders)


def _is_passed_over(path: str) -> bool:
    return any(name in _PASSED_OVER for name in Path(path).parts)
