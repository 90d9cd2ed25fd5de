"""The story of a run: each step of each plugin as it happens, for people or for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rich.status import Status
from rich.table import Table
from rich.text import Text

from plugkeep import events
from plugkeep.cli._app import describe
from plugkeep.cli._output import console, in_brief, show, show_json
from plugkeep.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugkeep.errors import PluginError
    from plugkeep.events import Event

#: How each step is told: a sign, its style, and what happened.
_TOLD = {
    events.Started: ("✓", "green", "started in {duration}"),
    events.StartFailed: ("✗", "bold red", "failed after {duration}: {error}"),
    events.StartSkipped: ("-", "yellow", "skipped: {error}"),
    events.Failed: ("✗", "bold red", "has failed: {error}"),
    events.Restarting: ("!", "yellow", "{again}"),
    events.Quarantined: ("✗", "bold red", "is quarantined: it has failed too often"),
    events.Degraded: ("!", "yellow", "is degraded: {reason}"),
    events.Recovered: ("✓", "green", "is well again"),
    events.Stopped: ("✓", "dim", "stopped in {duration}"),
    events.StopFailed: ("✗", "bold red", "failed to stop after {duration}: {error}"),
    events.Reloaded: ("✓", "green", "reloaded"),
    events.ReloadFailed: ("✗", "bold red", "not reloaded: {error}"),
    events.LateReturn: ("!", "yellow", "returned late, after {duration}"),
}
#: What only some events have.
_MORE = ("delay", "reason")
_BEGIN = (events.Starting, events.Stopping)

_WIDTH = 48
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Story(Protocol):
    """Tells what happens."""

    def __call__(self, event: Event) -> None: ...
    def running(self, names: list[str], total: int, url: str | None) -> None:
        """All has been started that could be; routes are served at `url`."""
        ...

    def changed(self, files: Sequence[str], plugins: Sequence[str]) -> None:
        """Files have changed, and so these plugins are about to be reloaded."""
        ...

    def rejected(self, error: PluginError) -> None:
        """What is in the host's file by now could not be done."""
        ...

    def ended(self, status: int) -> None:
        """All is over."""
        ...


class JsonStory:
    """One JSON object for each event, on a line of its own."""

    def __call__(self, event: Event) -> None:
        self._tell(
            _kebab(type(event).__name__),
            plugin=event.plugin,
            time=event.time,
            duration=event.duration,
            error=describe(event.error),
            **{name: getattr(event, name) for name in _MORE if hasattr(event, name)},
        )

    def running(self, names: list[str], total: int, url: str | None) -> None:
        self._tell("running", plugins=names, total=total, url=url)

    def changed(self, files: Sequence[str], plugins: Sequence[str]) -> None:
        self._tell("changed", files=files, plugins=plugins)

    def rejected(self, error: PluginError) -> None:
        self._tell("rejected", error=describe(error))

    def ended(self, status: int) -> None:
        self._tell("ended", status=status)

    def _tell(self, event: str, **facts: Any) -> None:
        show_json({"event": event, **facts}, indent=None)


def _kebab(name: str) -> str:
    return "".join(f"-{each.lower()}" if each.isupper() else each for each in name)[1:]


class TextStory:
    """One line for each event; on a terminal also what is going on, and a timeline."""

    def __init__(self, width: int) -> None:
        self._out = console()
        self._column = width
        self._busy: dict[str, str] = {}
        self._status: Status | None = None
        self._spans: list[tuple[str, float, float, bool]] = []
        self._began: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, _BEGIN):
            self._begin(event)
        elif told := _TOLD.get(type(event)):
            self._end(event, *told)

    def running(self, names: list[str], total: int, url: str | None) -> None:
        self._rest()
        if self._out.is_terminal and len(self._spans) > 1:
            self._show_timeline()
        took = max((end for _, _, end, _ in self._spans), default=0.0) - self._zero()
        place = f", at {url}" if url else ""
        hint = "; Ctrl-C stops them" if names else ""
        running = f"{len(names)} of {total} plugins running after {format_duration(took)}"
        show(Text(f"{running}{place}{hint}"))

    def changed(self, files: Sequence[str], plugins: Sequence[str]) -> None:
        self._rest()
        again = f": reloading {', '.join(plugins)}" if plugins else ""
        have = "has" if len(files) == 1 else "have"
        show(Text(f"{', '.join(files)} {have} changed{again}"))

    def rejected(self, error: PluginError) -> None:
        self._rest()
        show(Text.assemble(("✗ ", "bold red"), in_brief(error)))

    def ended(self, status: int) -> None:  # noqa: ARG002  (the exit status says it)
        self._rest()

    def _begin(self, event: Event) -> None:
        self._busy[event.plugin] = type(event).__name__.lower()
        self._began[event.plugin] = event.time
        if self._out.is_terminal:
            if self._status is None:
                self._status = Status("", console=self._out)
                self._status.start()
            self._update()

    def _update(self) -> None:
        if self._status is not None:
            doing = (f"{verb} {plugin}" for plugin, verb in self._busy.items())
            self._status.update(Text(", ".join(doing), overflow="ellipsis", no_wrap=True))

    def _end(self, event: Event, sign: str, style: str, sentence: str) -> None:
        self._busy.pop(event.plugin, None)
        if isinstance(event, (events.Started, events.StartFailed)):
            began = self._began.pop(event.plugin, event.time)
            good = isinstance(event, events.Started)
            self._spans.append((event.plugin, began, event.time, good))
        told = sentence.format(
            duration=format_duration(event.duration or 0.0),
            error=in_brief(event.error),
            reason=getattr(event, "reason", ""),
            again=_again(event),
        )
        plugin = f"{event.plugin:<{self._column}}"
        show(Text.assemble((f"{sign} ", style), f"{plugin}  {told}"))
        self._update()

    def _rest(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _zero(self) -> float:
        return min((began for _, began, _, _ in self._spans), default=0.0)

    def _show_timeline(self) -> None:
        zero = self._zero()
        whole = max(end for _, _, end, _ in self._spans) - zero or 1.0
        table = Table(box=None, show_header=False, pad_edge=False)
        for plugin, began, end, good in sorted(self._spans, key=lambda span: span[1]):
            left, right = ((each - zero) / whole * _WIDTH for each in (began, end))
            table.add_row(
                plugin,
                Text(_bar(left, right), style="green" if good else "red"),
                format_duration(end - began),
            )
        self._out.print(table, soft_wrap=False)


def _again(event: Event) -> str:
    """Return when a plugin that is restarting comes back."""
    if not isinstance(event, events.Restarting):
        return ""
    if event.delay is None:
        return "comes back with what it requires"
    return f"is started again in {format_duration(event.delay)}" if event.delay else "starts again"


def _bar(left: float, right: float) -> str:
    """Return a bar from `left` to `right`, in columns, to an eighth of one at its end."""
    first = int(left)
    full, part = divmod(round((right - first) * 8), 8)
    bar = "█" * full + (_EIGHTHS[part] if part else "")
    return " " * first + (bar or _EIGHTHS[1])
