"""What a program of level 0, 1 or 2 must do, whatever its methods are, as a suite.

Where the methods are known, the transcripts in `protocol` test more; this is for any program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

from plugkeep.channel.announcement import Refused, read_frame, read_printed
from plugkeep.testing._talk import Broken, Malformed, Message, Talk
from plugkeep.testing.contract import Findings, Rule

#: Seconds in which a program that is about to end by itself after ready does so.
SETTLES: Final = 0.3
#: Requests that are made at once.
MANY: Final = 200
#: Seconds for a byte to be read; a program that does not read then gets the next one with it.
_SOON: Final = 0.1
_UNKNOWN: Final = "no-such-method-4711"
_STOP: Final = {"cmd": "stop"}

WIRE_RULES: Final[dict[str, Rule]] = {
    rule.name: rule
    for rule in (
        Rule("ready", 'the first thing that it says is an object with "ready": true, in time'),
        Rule("ready-line", "at level 1 the ready object is one line, with nothing else on it"),
        Rule("level", "it chooses a level that is offered"),
        Rule("announces", "what it announces is of the form that the protocol has for it"),
        Rule("messages", "its messages are requests, notifications and responses of JSON-RPC 2.0"),
        Rule("start", "it answers $/start with a result, or with -32601"),
        Rule("ping", "it answers $/ping with null"),
        Rule("ids", "it gives back the id of a request as it was"),
        Rule("unknown-method", "a method that it does not have is answered with -32601"),
        Rule("unknown-reserved", "a reserved method that it does not know is answered with -32601"),
        Rule("unknown-notification", "a notification that it does not know is passed over"),
        Rule("unknown-member", "members that it does not know are passed over"),
        Rule(
            "unknown-call", "$/cancel and $/credit of a call that it does not have are passed over"
        ),
        Rule("unasked-answer", "an answer to what it has not asked is passed over"),
        Rule("many", "requests that come all at once are answered, each of them once"),
        Rule("pieces", "a message that comes in pieces is one"),
        Rule("characters", "U+2028 and the like are characters as any other"),
        Rule("blank-lines", "at level 1 blank lines, and a \\r before a newline, are passed over"),
        Rule("garbage", "at level 1 what is no message is passed over, or -32700 or -32600"),
        Rule("cut-off", "at level 2 a bad frame ends it, with a status that is not 0, and stderr"),
        Rule("announced", "it has the methods that it announces"),
        Rule("stays", "it runs until it is told to stop"),
        Rule("stop", "it answers $/stop, and exits with status 0 within the time"),
        Rule("stop-message", '{"cmd":"stop"} ends it, with status 0'),
        Rule("end-of-input", "the end of its input ends it, for its host is gone"),
        Rule("end-before-start", "the end of its input ends it before its start, too"),
        Rule("leaves-nothing", "no process of its group is left when it has ended"),
    )
}


def check_wire(
    path: str | os.PathLike[str],
    *args: str | os.PathLike[str],
    config: Any = None,
    offer: Collection[int] = (0, 1, 2),
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    start_timeout: float = 10.0,
    timeout: float = 10.0,
    probe: bool = False,
    skip: Collection[str] | str = (),
) -> None:
    """Check that a program keeps the protocol, at each level that it chooses of those offered.

    It is started with `args` several times over, and given `config` at its start; `env` and `cwd`
    are as for `ExecSandbox`. `start_timeout` is how many seconds it has for being ready, and again
    for its start; `timeout` how many for every other thing. None of its methods is called, unless
    with `probe`: then each that it announces is, with no time left, so that a program which minds
    deadlines answers without running it. `offer` are the levels to offer, one after the other: a
    program that speaks level 2 alone is to be offered that alone. `skip` are names of rules, of
    `WIRE_RULES`, that are left out.

    Raises ContractError with all that was found, each with what was sent and what came.
    ValueError for a rule in `skip` that is none, or a level that is none; OSError where the
    program cannot be executed.
    """
    __tracebackhide__ = True
    if not set(offer) <= {0, 1, 2}:
        raise ValueError(f"offer is {offer!r}; the levels are 0, 1 and 2")
    command = [os.fspath(each) for each in (path, *args)]
    findings = Findings(f"program {' '.join(command)!r:.200}", WIRE_RULES, skip)

    limits = {"start_timeout": start_timeout, "timeout": timeout}
    checked: set[int] = set()
    for level in sorted(set(offer)):
        launch = partial(Talk, command, level, env=env, cwd=cwd, **limits)
        suite = _Suite(launch, findings, config, probe)
        chosen = suite.greet()
        spoken = min(level, chosen or 0)  # nothing but level 0 where no more was offered
        if chosen is not None and spoken not in checked:
            suite.check(spoken)
            checked.add(spoken)
    findings.conclude()


class _Suite:
    """The rules for one program, at one level that it is offered."""

    def __init__(
        self, launch: Callable[[], Talk], findings: Findings, config: Any, probe: bool
    ) -> None:
        self._launch = launch
        self._findings = findings
        self._config = config
        self._probe = probe
        self._is_hopeless = False

    def greet(self) -> int | None:
        """Check what it says first; return the level that it chooses, None if it is not ready."""
        with self._launch() as talk:
            if not self._try("ready", talk, Talk.await_ready):
                return None
            wire = talk.ready.get("wire", 0)
            # A host of level 0 does not look at the member, nor a plugin at what is offered.
            most = talk.offered or 1
            if type(wire) is not int or not 0 <= wire <= most:
                self._findings.note("level", f"it chose {wire!r}, where {most} was offered")
                return None
            if talk.offered and wire:
                self._try("announces", talk, _announces)
            if talk.offered and wire == 1 and not talk.ready_line_ends():
                self._findings.note("ready-line", f"it said {talk.ready_bytes!r:.200}")
            return wire

    def check(self, level: int) -> None:
        """Check the rest, in several lives."""
        if level == 0:
            self._live("stays", _stays)
        else:
            self._ask_all(level)
        self._live("stop-message", _stop_message, level=level)
        self._live("end-of-input", _end_of_input, level=level)
        if level:
            self._live("end-before-start", _end_of_input)
        if level == 2:
            self._live("cut-off", _cut_off, level=level)

    def _ask_all(self, level: int) -> None:
        """Try one thing after the other in one life, and begin another where that went wrong."""
        left = [each for each in _PROBES if level in each[1] and not self._findings.skips(each[0])]
        if self._probe:
            left.insert(-1, ("announced", (1, 2), _announced))
        while left and not self._is_hopeless:
            with self._launch() as talk:
                if not self._begin(talk, level):
                    return
                while left:
                    rule, _, probe = left.pop(0)
                    if not self._try(rule, talk, probe):
                        break

    def _live(self, rule: str, end: Callable[[Talk], None], level: int = 0) -> None:
        """Have it end in one way, started before if it is of a level where that can be."""
        if self._findings.skips(rule):
            return
        with self._launch() as talk:
            if not self._begin(talk, level) or not self._try(rule, talk, end):
                return
            if rule != "stays" and (pids := talk.left()):
                self._findings.note("leaves-nothing", f"after {rule}: processes {pids}")

    def _begin(self, talk: Talk, level: int) -> bool:
        """Have it ready, and started where `level` is one that has a start."""
        if not self._try("ready", talk, Talk.await_ready):
            return False
        has_started = not level or self._try("start", talk, self._start)
        talk.has_started()
        return has_started

    def _start(self, talk: Talk) -> None:
        answer = talk.ask("$/start", params={"config": self._config, "host": []})
        if "result" not in answer and _code(answer) != -32601:
            raise Broken(f"sent $/start; {_came(answer)}")

    def _try(self, rule: str, talk: Talk, act: Callable[[Talk], object]) -> bool:
        """Note what `act` finds; return whether it found nothing."""
        try:
            act(talk)
        except Malformed as malformed:
            self._is_hopeless = True
            self._findings.note("messages", f"{malformed} ({_at(talk)})")
            return False
        except Broken as broken:
            self._findings.note(rule, f"{broken} ({_at(talk)})")
            return False
        finally:
            for reason in talk.malformed:
                self._findings.note("messages", f"{reason} ({_at(talk)})")
            talk.malformed.clear()
        return True


def _at(talk: Talk) -> str:
    return f"at level {talk.level}"


# --- what is said, and what has to come -------------------------------------------------------


def _announces(talk: Talk) -> None:
    try:
        read = read_frame if talk.level == 2 else read_printed
        read(talk.ready_bytes, talk.offered)
    except Refused as refused:
        raise Broken(f"its ready object {refused}") from None
    names = [each["name"] if isinstance(each, dict) else each for each in _methods(talk)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Broken(f"its ready object has {', '.join(map(repr, twice))} more than once")


def _methods(talk: Talk) -> list[Any]:
    methods = talk.ready.get("methods")
    return methods if isinstance(methods, list) else []


def _ping(talk: Talk) -> None:
    answer = talk.ask("$/ping")
    if answer.get("result", ...) is not None:
        raise Broken(f"sent $/ping; {_came(answer)}")


def _ids(talk: Talk) -> None:
    for number in ("a text", 2**53 - 1):
        talk.ask("$/ping", number)
    _no_strays(talk)


def _unknown_method(talk: Talk) -> None:
    _expect_code(talk, -32601, _UNKNOWN)
    _expect_code(talk, -32601, _UNKNOWN, params={"a": 1})


def _unknown_reserved(talk: Talk) -> None:
    _expect_code(talk, -32601, "$/no-such-request")


def _unknown_notification(talk: Talk) -> None:
    talk.tell({"jsonrpc": "2.0", "method": "$/no-such-notification", "params": {"x": [1]}})
    talk.tell({"jsonrpc": "2.0", "method": _UNKNOWN})
    _still_answers(talk)


def _unknown_member(talk: Talk) -> None:
    answer = talk.ask("$/ping", later={"a": [1, None]}, within=4711)
    if "result" not in answer:
        raise Broken(f"sent $/ping with a member 'later'; {_came(answer)}")


def _unknown_call(talk: Talk) -> None:
    for method, more in (("$/cancel", {}), ("$/credit", {"n": 1}), ("$/progress", {"value": 1})):
        params = {"id": 4711, **more}
        talk.tell({"jsonrpc": "2.0", "method": method, "params": params})
    _still_answers(talk)


def _unasked_answer(talk: Talk) -> None:
    talk.tell({"jsonrpc": "2.0", "id": 4711, "result": 1})
    talk.tell({"jsonrpc": "2.0", "id": "x", "error": {"code": -32000, "message": "late"}})
    talk.tell({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "no JSON"}})
    _still_answers(talk)


def _many(talk: Talk) -> None:
    numbers = [talk.next_number() for _ in range(MANY)]
    requests = [
        {"jsonrpc": "2.0", "id": n, "method": "$/ping" if n % 2 else _UNKNOWN} for n in numbers
    ]
    talk.write(b"".join(map(talk.packed, requests)), b"%d requests at once" % MANY)
    for number in numbers:
        early = next((each for each in talk.strays if each.get("id") == number), None)
        if early is None:
            talk.response(number)
        else:
            talk.strays.remove(early)
    _still_answers(talk)


def _pieces(talk: Talk) -> None:
    number = talk.next_number()
    message = {"jsonrpc": "2.0", "id": number, "method": "$/ping"}
    for byte in talk.packed(message):
        talk.write(bytes([byte]), b"a $/ping, byte by byte")
        talk.until_read(_SOON)
    talk.response(number)


def _characters(talk: Talk) -> None:
    talk.ask("no-such\u2028method\u0085\u00fc\U0001f600")


def _blank_lines(talk: Talk) -> None:
    talk.write(b"\n  \n\r\n")
    number = talk.next_number()
    message = talk.packed({"jsonrpc": "2.0", "id": number, "method": "$/ping"})
    talk.write(message.replace(b"\n", b"\r\n"), b"blank lines, and a $/ping that ends in \\r\\n")
    talk.response(number)
    _no_strays(talk, -32700, -32600)


def _garbage(talk: Talk) -> None:
    for line in (b"hello\n", b"[1]\n", b"{}\n", b'"\xff"\n', b'{"jsonrpc": "2.0", "id": 1\n'):
        talk.write(line)
    _still_answers(talk, -32700, -32600)


def _announced(talk: Talk) -> None:
    for each in _methods(talk):
        about = each if isinstance(each, dict) else {"name": each}
        credit = {"credit": 1} if about.get("stream") else {}
        answer = talk.ask(about["name"], deadline_ms=0, **credit)
        if _code(answer) == -32601:
            raise Broken(f"sent {about['name']!r}, which it announces; {_came(answer)}")


# --- how it ends ------------------------------------------------------------------------------


def _stays(talk: Talk) -> None:
    if talk.ends_within(SETTLES):
        raise Broken(talk.how_it_ended(talk.exit_status()))


def _stop(talk: Talk) -> None:
    answer = talk.ask("$/stop")
    if _code(answer) == -32601:
        talk.tell(_STOP)
    elif "result" not in answer:
        raise Broken(f"sent $/stop; {_came(answer)}")
    _exits(talk, 0)


def _stop_message(talk: Talk) -> None:
    talk.tell(_STOP)
    if talk.level == 0:
        talk.close()  # as a host does then
    _exits(talk, 0)


def _end_of_input(talk: Talk) -> None:
    talk.close()
    try:
        status = talk.exit_status()
    except Broken:
        raise Broken(f"its input ended; it still ran {talk.timeout:g} s later") from None
    if status < 0:
        raise Broken(f"its input ended; {talk.how_it_ended(status).partition('; ')[2]}")


def _cut_off(talk: Talk) -> None:
    talk.write(b"\x02\0\0\0\x02\0\0\0\x08\0\0\0{}")  # flags that there are none of
    status = talk.exit_status()
    if status == 0 or not talk.stderr().strip():
        raise Broken(f"sent a frame with the flags 8; {talk.how_it_ended(status)}")


def _exits(talk: Talk, wanted: int) -> None:
    status = talk.exit_status()
    if status != wanted:
        raise Broken(talk.how_it_ended(status))


def _expect_code(talk: Talk, code: int, method: str, **members: Any) -> None:
    answer = talk.ask(method, **members)
    if _code(answer) != code:
        raise Broken(f"sent the request {method!r}; {_came(answer)}")


def _still_answers(talk: Talk, *allowed: int) -> None:
    talk.ask("$/ping")
    _no_strays(talk, *allowed)


def _no_strays(talk: Talk, *allowed: int) -> None:
    """Refuse responses that nobody asked for; errors of these codes may have come, without id."""
    strays = [
        each for each in talk.strays if each.get("id") is not None or _code(each) not in allowed
    ]
    talk.strays.clear()
    if strays:
        raise Broken(f"beside the answer that was waited for {_came(strays[0])}")


def _code(answer: Message) -> object:
    error = answer.get("error")
    return error.get("code") if isinstance(error, dict) else None


def _came(answer: Message) -> str:
    return f"{answer!r:.300} came"


#: What is tried with a program that runs, in this order: the rule, the levels, and how.
_PROBES: Final[tuple[tuple[str, tuple[int, ...], Callable[[Talk], None]], ...]] = (
    ("ping", (1, 2), _ping),
    ("ids", (1, 2), _ids),
    ("unknown-method", (1, 2), _unknown_method),
    ("unknown-reserved", (1, 2), _unknown_reserved),
    ("unknown-notification", (1, 2), _unknown_notification),
    ("unknown-member", (1, 2), _unknown_member),
    ("unknown-call", (1, 2), _unknown_call),
    ("unasked-answer", (1, 2), _unasked_answer),
    ("many", (1, 2), _many),
    ("pieces", (1, 2), _pieces),
    ("characters", (1, 2), _characters),
    ("blank-lines", (1,), _blank_lines),
    ("garbage", (1,), _garbage),
    ("stop", (1, 2), _stop),
)
