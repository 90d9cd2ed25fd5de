"""The transcripts, played to plugins that were written from the specification alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROTOCOL = Path(__file__).parents[3] / "protocol"
REFERENCE = PROTOCOL / "reference"
HEADERS = {
    path.stem: json.loads(path.read_text().partition("\n")[0])
    for path in sorted(PROTOCOL.glob("transcripts/*.ndjson"))
    if path.stem != "closing"
}

AWK_METHODS = {"echo", "add", "fail", "log", "count"}
#: What twenty lines leave out: they trust their host.
MINIMAL_LACKS = {"error-parse", "error-invalid-request", "error-params"}


def played(level: int, methods: set[str] | None = None, codec: str = "json") -> list[str]:
    """Return the names of the transcripts for a plugin that has `methods`; None: all there are."""
    return [
        name
        for name, header in HEADERS.items()
        if level in header.get("levels", [1, 2])
        and "plugin" in header.get("tests", ["plugin"])
        and header.get("codec", codec) == codec
        and not header.get("batch")  # which none of them takes
        and (methods is None or methods.issuperset(header.get("needs", ())))
    ]


MINIMAL = [name for name in played(1, {"echo", "add"}) if name not in MINIMAL_LACKS]
CASES = [
    *(("minimal.py", 1, name) for name in MINIMAL),
    *(("reference.py", 1, name) for name in played(1)),
    *(
        (each, 0, name)
        for each in ("minimal.py", "reference.py", "reference.awk")
        for name in played(0)
    ),
    *(("reference.awk", 1, name) for name in played(1, AWK_METHODS)),
    *(("go", 2, name) for name in played(2)),
]


@pytest.mark.timeout(300)  # the first build compiles Go's own library
@pytest.mark.parametrize(("program", "level", "name"), CASES)
def test_a_transcript(program, level, name, plugin, play):
    play([name], plugin(program), level)


def test_twenty_lines_are_enough():
    assert len((REFERENCE / "minimal.py").read_text().splitlines()) == 20


def test_the_transcripts_reach_every_reference_method():
    needed = {method for header in HEADERS.values() for method in header.get("needs", ())}
    assert needed == AWK_METHODS | {
        "options",
        "settings",
        "wait",
        "say",
        "blob",
        "size",
        "ask_host",
    }


# --- The command line -------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROTOCOL / "replay.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_says_what_holds_and_what_was_not_tried():
    done = run("--only", "ping,wait,cancel", sys.executable, REFERENCE / "minimal.py")
    assert done.stdout == "skipped  cancel: it has no wait\nok       ping\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_language_of_doubles_is_told_what_to_leave_out():
    script = '"$0" "$1" | sed -u s/9007199254740993/9007199254740992/'
    rounded = ("sh", "-c", script, sys.executable, REFERENCE / "minimal.py")
    names = ("--only", "ping,values-wide-integers")
    told = run(*names, *rounded)
    assert told.returncode == 1
    assert told.stdout.endswith("may leave this out: --skip values-wide-integers\n")
    quiet = run(*names, "--skip", "values-wide-integers", *rounded)
    assert (quiet.returncode, quiet.stdout) == (0, "ok       ping\n")


FAULTS = {
    "another result": ("5", '"result": 6', "but it says {'jsonrpc': '2.0', 'id': 2, 'result': 6}"),
    "true for 1": ("true", '"result": true', "'result': True}"),
    "another id": ("5", '"id": 3, "result": 5', "'id': 3"),
    "an error": ("5", '"error": {"code": -1, "message": ""}', "'code': -1"),
    "one too many": ("5", '"result": 5}\n{"jsonrpc": "2.0", "id": 2, "result": 5', "'result': 5}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_plugin_that_is_wrong_is_told_where(fault, tmp_path, replay):
    right, wrong, told = FAULTS[fault]
    program = tmp_path / "wrong.sh"
    answer = wrong if '"id"' in wrong else f'"id": 2, {wrong}'
    program.write_text(
        f"""
        echo '{{"ready": true, "wire": 1}}'
        read -r line && echo '{{"jsonrpc": "2.0", "id": 1, "result": null}}'
        read -r line && printf '%s\\n' '{{"jsonrpc": "2.0", {answer}}}'
        echo 'so it goes' >&2
        read -r line && echo '{{"jsonrpc": "2.0", "id": 99, "result": null}}'
        """.replace("\\n{", "\n{")
    )
    expected = {"jsonrpc": "2.0", "id": 2, "result": 1 if right == "true" else json.loads(right)}
    sums = replay.load("call-positional")
    lines = (sums.lines[0], replay.Line("sums:3", {"from": "plugin", "message": expected}))
    changed = replay.replace(sums, lines=lines, needs=())
    with pytest.raises(replay.MismatchError) as caught:
        replay.play(changed, replay.launcher(["sh", str(program)], 1))
    assert told in str(caught.value)


def test_a_plugin_that_says_nothing_is_not_waited_for_ever(replay, monkeypatch):
    monkeypatch.setattr(sys.modules["replay_channels"], "PATIENCE", 0.05)
    silent = ["sh", "-c", """echo '{"ready": true, "wire": 1}'; cat >"$1" """, "sh", os.devnull]
    with pytest.raises(replay.MismatchError, match="did not come within"):
        replay.play(replay.load("ping"), replay.launcher(silent, 1))


def test_a_plugin_that_is_gone_too_early_is_told_so(replay):
    brief = ["sh", "-c", """echo '{"ready": true, "wire": 1}'"""]
    with pytest.raises(replay.MismatchError, match=r"output has ended|reads no more"):
        replay.play(replay.load("ping"), replay.launcher(brief, 1))


def test_a_plugin_that_does_not_exit_is_told_so(replay, monkeypatch):
    channels = sys.modules["replay_channels"]

    class Impatient(channels.Plugin):
        def exit_status(self):
            monkeypatch.setattr(channels, "PATIENCE", 0.01)  # not before: it may be slow to begin
            return super().exit_status()

    stubborn = """exec 3>&1; echo '{"ready": true}'; exec >&- 3>&-; while :; do sleep 60; done"""
    with pytest.raises(replay.MismatchError, match=r"did not exit within"):
        replay.play(replay.load("level-0-stop"), lambda: Impatient(["sh", "-c", stubborn], offer=0))
