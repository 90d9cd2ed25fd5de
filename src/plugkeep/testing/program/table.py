"""The faults, as data: what each does, when, where it can be had, and what it takes.

The standard library alone: the program in this folder runs without plugkeep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Where a fault can be had: in the host's own process; in a Python process of the plugin's own,
#: such as `isolate` starts; in the program of this folder.
HERE, PROCESS, PROGRAM = "in process", "process", "program"
_OWN = (PROCESS, PROGRAM)
_ALL = (HERE, *_OWN)

#: Seconds that whatever hangs does so at most, unless it is told another number.
LIMIT = 300.0
#: Nobody needs more than this, and a typing error may not cost a machine.
MOST: dict[str, float] = {"seconds": 3600.0, "size": 1 << 30, "count": 10_000, "status": 255}

_ENDLESS = {"seconds": LIMIT}
_SHORT = {"seconds": 0.2}
_STATUS = {"status": 3}
_SIGNAL = {"signal": "SIGKILL"}
_TEXT = {"text": "as it was told to"}
_FLOOD = {"size": 1 << 20}


class Fault(NamedTuple):
    """One way to misbehave.

    `moment` is when: ``load``, before the plugin is ready; ``start``, ``stop``, ``health``, in
    that method; ``call``, in each call, or once where it is asked for; ``calls``, in each call;
    ``up``, at the end of a start that succeeds; ``running``, as soon as the host knows of that.
    `takes` are the parameters, and what they are by default: `seconds`, `status` (of the exit),
    `signal` (its name, or number), `size` (in bytes), `count`, `text`.
    """

    name: str
    moment: str
    deed: str
    where: tuple[str, ...]
    takes: Mapping[str, Any]
    does: str


FAULTS: dict[str, Fault] = {
    row[0]: Fault(*row)
    for row in (
        # --- it ends ---
        ("exit-before-ready", "load", "leave", _OWN, _STATUS, "exits before it is ready"),
        ("kill-before-ready", "load", "kill", _OWN, _SIGNAL,
            "is ended by a signal before it is ready"),
        ("exit-in-ready", "load", "leave_in_ready", (PROGRAM,), _STATUS,
            "exits in the middle of its ready message"),
        ("exit-in-start", "start", "leave", _OWN, _STATUS, "exits in its start"),
        ("kill-in-start", "start", "kill", _OWN, _SIGNAL, "is ended by a signal in its start"),
        ("exit-after-ready", "running", "leave", _OWN, _STATUS, "exits as soon as it runs"),
        ("kill-after-ready", "running", "kill", _OWN, _SIGNAL,
            "is ended by a signal as soon as it runs"),
        ("exit-in-call", "call", "leave", _OWN, _STATUS, "exits instead of answering"),
        ("kill-in-call", "call", "kill", _OWN, _SIGNAL,
            "is ended by a signal instead of answering"),
        ("exit-in-stop", "stop", "leave", _OWN, _STATUS, "exits in its stop, without an answer"),
        ("kill-in-stop", "stop", "kill", _OWN, _SIGNAL, "is ended by a signal in its stop"),
        # --- it raises ---
        ("raise-in-factory", "load", "fail", (HERE, PROCESS), _TEXT, "cannot be made"),
        ("raise-in-start", "start", "fail", _ALL, _TEXT, "raises in its start"),
        ("raise-in-call", "call", "fail", _ALL, _TEXT, "raises in each call"),
        ("raise-in-stop", "stop", "fail", _ALL, _TEXT, "raises in its stop"),
        # --- it takes its time ---
        ("hang-before-ready", "load", "hang", _OWN, _ENDLESS, "does not become ready"),
        ("hang-in-start", "start", "hang", _ALL, _ENDLESS, "does not return from its start"),
        ("hang-in-call", "call", "hang", _ALL, _ENDLESS, "does not return from a call"),
        ("hang-in-stop", "stop", "hang", _ALL, _ENDLESS, "does not return from its stop"),
        ("slow-before-ready", "load", "hang", _OWN, _SHORT, "is late with being ready"),
        ("slow-start", "start", "hang", _ALL, _SHORT, "is slow to start"),
        ("slow-call", "call", "hang", _ALL, _SHORT, "is slow to answer"),
        ("slow-stop", "stop", "hang", _ALL, _SHORT, "is slow to stop"),
        ("hold-gil", "call", "hold_gil", (HERE, PROCESS), {"seconds": 1.0},
            "holds the interpreter's lock, as C code does: no thread of its process gets on"),
        # --- it does not stop ---
        ("ignore-stop", "stop", "ignore_stop", _OWN, _ENDLESS,
            "goes on when it is told to stop, and when its host is gone"),
        ("ignore-stop-and-sigterm", "stop", "ignore_sigterm", _OWN, _ENDLESS,
            "goes on like that, and SIGTERM does not end it"),
        # --- it is deaf or dumb ---
        ("freeze", "running", "freeze", _OWN, {}, "sends itself SIGSTOP as soon as it runs"),
        ("stop-reading", "running", "stop_reading", (PROGRAM,), _ENDLESS,
            "reads nothing any more, and stays"),
        ("close-wire", "running", "close_wire", _OWN, {},
            "closes what leads to its host, and stays"),
        # --- it says too much ---
        ("garbage-before-ready", "load", "say_garbage", (PROGRAM,), {"size": 64},
            "says something else instead of its ready message, and stays"),
        ("garbage-after-ready", "running", "say_garbage", _OWN, {"size": 64},
            "writes rubbish to the wire as soon as it runs"),
        ("flood-stdout", "up", "flood_stdout", _ALL, _FLOOD, "prints a lot, in lines"),
        ("flood-stderr", "up", "flood_stderr", _ALL, _FLOOD, "prints a lot to stderr, in lines"),
        ("flood-line", "up", "flood_line", _ALL, _FLOOD, "prints one long line to stderr"),
        ("flood-log", "up", "flood_log", _ALL, {"count": 10_000}, "logs a lot of records"),
        # --- it takes, and does not give back ---
        ("leak-descriptors", "up", "leak_descriptors", _ALL, {"count": 8},
            "opens descriptors and leaves them open"),
        ("leak-threads", "up", "leak_threads", _ALL, {"count": 2, **_ENDLESS},
            "starts threads and leaves them running"),
        ("leak-files", "up", "leak_files", _ALL, {"count": 2},
            "writes temporary files and leaves them"),
        ("leak-memory", "call", "leak_memory", _ALL, {"size": 1 << 20},
            "keeps memory in each call, 1 GiB in all at most"),
        ("eat-memory", "up", "leak_memory", _ALL, {"size": 64 << 20},
            "takes memory, and uses all of it"),
        # --- it multiplies ---
        ("spawn", "up", "spawn", _ALL, {"count": 1, **_ENDLESS},
            "leaves children of its own running"),
        ("spawn-detached", "up", "spawn_detached", _ALL, {"count": 1, **_ENDLESS},
            "leaves grandchildren running, in sessions of their own"),
        ("spawn-holding-pipes", "up", "spawn_holding", _OWN, {"count": 1, **_ENDLESS},
            "leaves grandchildren running that hold its pipes open"),
        # --- its health ---
        ("degraded", "health", "degrade", _ALL, {"text": "only half of it works"},
            "says of itself that it is not well"),
        ("health-raises", "health", "fail", _ALL, _TEXT, "raises when asked for its health"),
        ("health-blocks", "health", "hang", _ALL, _ENDLESS, "does not say how it is"),
        ("health-lies", "calls", "fail", _ALL, _TEXT,
            "says that it is well, though each call fails"),
    )
}  # fmt: skip


def faults(where: str | None = None) -> list[Fault]:
    """Return all faults, or those that can be had ``"in process"``, ``"process"``, ``"program"``.

    Raises ValueError for another `where`.
    """
    if where not in (None, *_ALL):
        raise ValueError(f"where is {where!r}; it can be: {', '.join(map(repr, _ALL))}")
    return [each for each in FAULTS.values() if where in (None, *each.where)]


def find(name: str, where: str) -> Fault:
    """Return the fault of that name, which can be had there. Raises ValueError."""
    fault = FAULTS.get(name)
    if fault is None or where not in fault.where:
        there = ", ".join(each.name for each in faults(where))
        reason = "is none" if fault is None else f"cannot be had {_in_words(where)}"
        raise ValueError(f"the fault {name!r} {reason}; there are: {there}")
    return fault


def settle(fault: Fault, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `fault`, those in `given` and its own. Raises ValueError."""
    for key, value in given.items():
        if key not in fault.takes:
            takes = f"it takes {', '.join(fault.takes)}" if fault.takes else "it takes nothing"
            raise ValueError(f"the fault {fault.name!r} takes no {key!r}; {takes}")
        most = MOST.get(key, math.inf)
        if key in MOST and not 0 <= value <= most:
            raise ValueError(
                f"{key} of the fault {fault.name!r} is {value!r}; it can be 0 to {most:g}"
            )
    return {**fault.takes, **given}


def _in_words(where: str) -> str:
    return {HERE: "in the host's process", PROCESS: "in a Python process"}.get(
        where, "in the program"
    )
