"""Each rule of the wire finds the program that breaks it, and no other; what keeps it, passes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from plugkeep.testing import WIRE_RULES, ContractError, check_wire, faulty_program

HERE = Path(__file__).parent
REFERENCE = HERE.parents[2] / "protocol" / "reference"
BROKEN = HERE / "broken_wire.py"
#: Seconds: for what is right on a busy machine, and for what is known to hang.
LONG, SHORT = 30.0, 2.0


# --- what keeps the protocol ------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 2])
def test_what_is_not_broken_passes(level: int) -> None:
    check_wire(sys.executable, "-S", BROKEN, "nothing", str(level), timeout=LONG, probe=True)


def test_the_faulty_program_when_it_is_not_faulty() -> None:
    check_wire(sys.executable, "-S", faulty_program(), timeout=LONG, probe=True)


def test_the_reference_plugin() -> None:
    check_wire(sys.executable, "-S", REFERENCE / "reference.py", timeout=LONG, probe=True)


def test_the_reference_plugin_in_twenty_lines() -> None:
    """It trusts its host to send nothing but messages, and only those that it has to know."""
    lacks = ("unasked-answer", "blank-lines", "garbage")
    check_wire(sys.executable, "-S", REFERENCE / "minimal.py", timeout=LONG, skip=lacks)


def test_the_reference_plugin_in_awk() -> None:
    awk = shutil.which("awk") or pytest.skip("needs awk")
    check_wire(awk, "-f", REFERENCE / "reference.awk", timeout=LONG, probe=True)


def test_our_own_runner() -> None:
    source = "python:plugkeep.testing.faulty"
    check_wire(sys.executable, "-m", "plugkeep.runner", source, timeout=LONG, probe=True)


def test_the_smallest_plugin() -> None:
    script = "echo '{\"ready\":true}'; read line"
    check_wire("sh", "-c", script, timeout=LONG)


def test_it_is_given_its_configuration_and_surroundings(tmp_path: Path) -> None:
    reference = REFERENCE / "reference.py"
    with pytest.raises(ContractError, match="no calendar"):
        check_wire(sys.executable, "-S", reference, config={"fail_start": "no calendar"}, offer=[1])
    script = 'test "$A" = b && test "$PWD" = "$0" && echo "{\\"ready\\":true}"; read line'
    env = {**os.environ, "A": "b"}
    check_wire(
        "sh", "-c", script, str(tmp_path), env=env, cwd=tmp_path, offer=[0], start_timeout=LONG
    )


def test_nothing_is_called_unless_it_is_asked_for(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text((REFERENCE / "minimal.py").read_text().replace("METHODS = {", CALLED, 1))
    lacks = ("unasked-answer", "blank-lines", "garbage")
    check_wire(sys.executable, "-S", program, skip=lacks, offer=[1])
    assert not (tmp_path / "called").exists()
    check_wire(sys.executable, "-S", program, skip=lacks, offer=[1], probe=True, cwd=tmp_path)
    assert (tmp_path / "called").exists()


CALLED = 'METHODS = {"mark": lambda: open("called", "w").close(), '


# --- what breaks it ---------------------------------------------------------------------------

#: The rule that is broken; how, in broken_wire.py; the levels at which; what is told.
BAD: list[tuple[str, str, tuple[int, ...], str]] = [
    ("ready", "ready-late", (0, 1, 2), "it was not ready within 2 s"),
    ("ready", "ready-text", (0, 1), "has 'h' at byte 0, where a JSON object should be: hello"),
    ("ready", "ready-false", (0, 1, 2), 'has no "ready": true'),
    ("ready", "ready-exit", (0, 1, 2), "it exited with status 1; the last of its stderr: no lice"),
    ("ready-line", "ready-line", (1,), 'it said b\'{"ready": true,\\n"wire": 1}\''),
    ("ready-line", "ready-line-more", (1,), "it said"),
    ("level", "level", (0, 1), "it chose 3, where 1 was offered"),
    ("announces", "announces-methods", (1, 2), "has methods 'echo', which is no array"),
    ("announces", "announces-name", (1, 2), "named '$/echo', which cannot be called"),
    ("announces", "announces-twice", (1, 2), "has 'echo' more than once"),
    ("announces", "announces-params", (1, 2), "'a b' is no parameter"),
    ("announces", "announces-version", (1, 2), "has version 1, which is no text"),
    ("messages", "messages-version", (1, 2), 'it has no "jsonrpc": "2.0": {\'id\': '),
    ("messages", "messages-request", (1, 2), "its method is no text"),
    ("start", "start", (1, 2), "sent $/start; {'jsonrpc': '2.0', 'id': 1, 'error': "),
    ("start", "start-ends", (1, 2), "no answer came: it exited with status 7"),
    ("ping", "ping", (1, 2), "sent $/ping; {'jsonrpc': '2.0', 'id': 2, 'result': 'pong'} came"),
    ("messages", "ping-frame", (2,), "a frame has the header"),
    ("ids", "ids", (1, 2), '"id":"a text","method":"$/ping"}; no answer came within 2 s'),
    ("unknown-method", "unknown-method", (1, 2), "'code': -32000"),
    ("unknown-reserved", "unknown-reserved", (1, 2), "'result': None} came"),
    ("unknown-notification", "unknown-notification", (1, 2), "stderr: unknown $/no-such-notif"),
    ("unknown-notification", "unknown-notification-answered", (1, 2), "beside the answer"),
    ("unknown-member", "unknown-member", (1, 2), "with a member 'later'; {'jsonrpc'"),
    ("unknown-call", "unknown-call", (1, 2), "beside the answer that was waited for"),
    ("unasked-answer", "unasked-answer", (1, 2), "'not asked'}} came"),
    ("many", "many", (1, 2), "no answer came within 2 s"),
    ("many", "many-twice", (1, 2), "beside the answer that was waited for"),
    ("pieces", "pieces", (1, 2), "byte by byte; no answer came within 2 s"),
    ("characters", "characters", (1,), "no answer came within 2 s"),
    ("blank-lines", "blank-lines", (1,), "stderr: a blank line"),
    ("garbage", "garbage", (1,), "stderr: no JSON"),
    ("garbage", "garbage-answered", (1,), "'code': -32000, 'message': 'what?'}} came"),
    ("cut-off", "cut-off-ignored", (2,), "it still ran 2 s later"),
    ("cut-off", "cut-off-status", (2,), "the flags 8; sent"),
    ("cut-off", "cut-off-silent", (2,), "it exited with status 1 (at level 2)"),
    ("announced", "announced", (1, 2), "sent 'echo', which it announces"),
    ("stays", "stays", (0,), "it exited with status 0"),
    ("stop", "stop-error", (1, 2), "sent $/stop; {'jsonrpc': '2.0', 'id': "),
    ("stop", "stop-unanswered", (1, 2), "no answer came: it exited with status 0"),
    ("stop", "stop-stays", (1, 2), "it still ran 2 s later"),
    ("stop", "stop-status", (1, 2), "it exited with status 4"),
    ("stop-message", "stop-message", (0, 1, 2), 'sent {"cmd":"stop"}; it still ran 2 s later'),
    ("stop-message", "stop-message-status", (0, 1, 2), "it exited with status 5"),
    ("end-of-input", "end-of-input", (0, 1, 2), "its input ended; it still ran 2 s later"),
    ("end-of-input", "end-of-input-killed", (0, 1, 2), "it was ended by SIGABRT"),
    ("end-before-start", "end-before-start", (1, 2), "its input ended; it still ran 2 s later"),
    ("leaves-nothing", "leaves-nothing", (0, 1, 2), "after stop-message: processes ["),
]

#: What cannot be found out about a program that is broken so.
IMPLIED = {"stays": {"stop-message", "end-of-input", "ready"}}


def test_every_rule_has_a_program_that_breaks_it() -> None:
    assert {rule for rule, *_ in BAD} == set(WIRE_RULES)


@pytest.mark.parametrize(
    ("rule", "defect", "level", "seen"),
    [(r, d, level, s) for r, d, levels, s in BAD for level in levels],
    ids=lambda value: str(value) if not isinstance(value, str) or len(value) < 30 else "",
)
def test_what_breaks_it_is_found(rule: str, defect: str, level: int, seen: str) -> None:
    limit = SHORT if f"{SHORT:g} s" in seen else LONG
    start_limit = SHORT if defect == "ready-late" else LONG
    with pytest.raises(ContractError) as caught:
        check_wire(
            sys.executable, "-S", BROKEN, defect, str(level),
            offer=[level], start_timeout=start_limit, timeout=limit, probe=rule == "announced",
        )  # fmt: skip
    error = caught.value
    found = [each for each in error.violations if each.rule.name == rule]
    assert any(seen in each.seen for each in found), str(error)
    others = {each.rule.name for each in error.violations} - {rule} - IMPLIED.get(rule, set())
    assert not others, str(error)


def test_a_message_that_has_both_or_a_bad_error() -> None:
    with pytest.raises(ContractError, match="it has not exactly one of result and error"):
        check_wire(sys.executable, "-S", BROKEN, "messages-both", "1", offer=[1])


def test_all_that_is_broken_is_told_at_once(tmp_path: Path) -> None:
    text = BROKEN.read_text().replace('BAD == "unknown-method"', "True")
    program = tmp_path / "program.py"
    program.write_text(text.replace('BAD == "stop-message-status"', "True"))
    with pytest.raises(ContractError) as caught:
        check_wire(sys.executable, "-S", program, "ping", "1", offer=[1], timeout=LONG)
    names = [each.rule.name for each in caught.value.violations]
    assert names == ["ping", "unknown-method", "stop-message"]
    assert "breaks 3 rules of its contract\n  ping: it answers $/ping with null\n" in str(
        caught.value
    )


# --- what is no program, and what is no rule --------------------------------------------------


def test_what_cannot_be_executed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_wire(tmp_path / "nothing")


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="skip has 'pings', which is no rule; did you mean 'ping'"):
        check_wire("sh", skip="pings")
    with pytest.raises(ValueError, match="the levels are 0, 1 and 2"):
        check_wire("sh", offer=[3])


def test_it_needs_no_test_runner() -> None:
    from plugkeep.testing import plugin_suite, wire_suite

    for module in (plugin_suite, wire_suite):
        spec = importlib.util.find_spec(module.__name__)
        assert spec is not None
        assert spec.origin is not None
        assert "import pytest" not in Path(spec.origin).read_text()


def test_it_leaves_nothing_of_a_program_that_hangs(gone: Any, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with pytest.raises(ContractError):
        check_wire("sh", "-c", f"echo $$ > {told}; exec sleep 60", offer=[0], start_timeout=0.5)
    gone(int(told.read_text()))


def test_a_script_that_compares_the_stop_message_or_waits_for_the_end_of_its_input(
    tmp_path: Any,
) -> None:
    for body in ('read line; [ "$line" = \'{"cmd":"stop"}\' ]', "cat >/dev/null"):
        script = tmp_path / "beat.sh"
        script.write_text(f"#!/bin/sh\necho '{{\"ready\": true}}'\n{body}\n")
        script.chmod(0o755)
        check_wire(script)
