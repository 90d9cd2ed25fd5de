"""What a keeper writes down for the next one, in case it is killed: nothing but text, in and out.

    plugkeep-ledger 1 8b0f...e3 pid:[4026531836]
    host 4711 90210
    keeper 4712 90214
    child 4720 90275 shop

The first line says in which boot of the machine the numbers mean anything, and in which of its
namespaces. A number is only half of a process's name: it is somebody else's later on. So each is
followed by when the process started, as ``/proc/PID/stat`` has it.

All lines are of one length, so each can be overwritten by another; those of spaces are free.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: What every ledger begins with, whichever version wrote it, and what ours do.
NAME = b"plugkeep-ledger "
_FORM = NAME + b"1"
#: Bytes of a line, with its end.
WIDTH = 128
BLANK = b" " * (WIDTH - 1) + b"\n"

_LARGEST_PID, _DIGITS = 2**31 - 1, 20


class Process:
    """A process by its number and the time of its start, which nobody else ever has."""

    def __init__(self, pid: int, start: int, name: str = "") -> None:
        self.pid, self.start, self.name = pid, start, name

    def __repr__(self) -> str:
        return f"{self.name or 'process'} ({self.pid})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.pid, self.start))


class Ledger:
    """What one says."""

    def __init__(self, boot: bytes, space: bytes, keeper: Process) -> None:
        self.boot, self.space, self.keeper = boot, space, keeper
        self.host: Process | None = None
        self.children: list[Process] = []


def headline(boot: bytes, space: bytes) -> bytes:
    """Return the line that a ledger begins with."""
    return _padded(b"%s %s %s" % (_FORM, boot, space))


def line(kind: bytes, process: Process) -> bytes:
    """Return the line about a process."""
    name = process.name.encode("unicode_escape")
    return _padded(b"%s %d %d %s" % (kind, process.pid, process.start, name))


def _padded(text: bytes) -> bytes:
    return text[: WIDTH - 1].ljust(WIDTH - 1) + b"\n"


def parse(text: bytes) -> Ledger | None:
    """Return what a ledger says, as far as it can be read; None: it is none of this version."""
    # One that is not whole may have other numbers than it had.
    first, *rest = [each for each in text.split(b"\n")[:-1] if len(each) == WIDTH - 1] or [b""]
    words = first.split()
    if not first.startswith(_FORM + b" ") or len(words) != 4:
        return None
    found = [(each[:1], process) for each in rest if (process := _process(each.split(None, 3)))]
    keeper = next((process for kind, process in found if kind == b"k"), None)
    if keeper is None:
        return None
    ledger = Ledger(words[2], words[3], keeper)
    ledger.host = next((process for kind, process in found if kind == b"h"), None)
    ledger.children = [process for kind, process in found if kind == b"c"]
    return ledger


def _process(words: list[bytes]) -> Process | None:
    if len(words) < 3 or words[0] not in (b"host", b"keeper", b"child"):
        return None
    if not all(each.isdigit() and len(each) <= _DIGITS for each in words[1:3]):
        return None
    pid, start = int(words[1]), int(words[2])
    if not 1 < pid <= _LARGEST_PID:  # 0 and below are groups, to the kernel, and 1 is everyone's
        return None
    name = words[3].rstrip() if len(words) > 3 else b""
    return Process(pid, start, name.decode("ascii", "replace"))


def judge(
    ledger: Ledger, boot: bytes, space: bytes, living: Mapping[int, int]
) -> tuple[list[Process], bool]:
    """Say which processes are to be killed, and whether nobody needs the ledger after that.

    `living` has when each process started that lives here and now, by its number.
    """
    if ledger.boot != boot:
        return [], True  # no process outlives that
    if ledger.space != space:
        return [], False  # whoever lives there knows
    if living.get(ledger.keeper.pid) == ledger.keeper.start:
        return [], False
    return [each for each in ledger.children if living.get(each.pid) == each.start], True
