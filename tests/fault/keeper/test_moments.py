"""The host is killed at some moment, and nothing that it has ever begun is left after that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

#: Has, as soon as it is there, a grandchild in a session of its own.
PLUGIN = """
import os, signal, time
from plugkeep import expose

if not os.fork():
    os.setsid()
    if not os.fork():
        signal.pause()
    os._exit(0)

class PluginFactory:
    name = "small"
    def start(self): {start}
    def stop(self): {stop}
    @expose
    def echo(self, value): return value
    @expose
    def hang(self): time.sleep(600)
"""
HOSTS = {
    "launch": "say('now'); plugin.start(); program.start(); signal.pause()",
    "start": "say('now'); plugin.start()",
    "call": """
plugin.start()
say('now')
while True:
    plugin.call("echo", 1)
""",
    "hanging call": "plugin.start(); say('now'); plugin.call('hang')",
    "stop": "plugin.start(); program.start(); say('now'); plugin.stop(); program.stop(); say()",
    "hanging stop": "plugin.start(); say('now'); plugin.stop()",
    "all over": """
say('now')
while True:
    with plugin, program:
        plugin.call("echo", 1)
""",
}
MOMENTS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2)


@pytest.mark.parametrize("phase", HOSTS)
def test_a_host_killed_at_any_moment_leaves_nothing(
    run_warden: Any, tmp_path: Path, phase: str
) -> None:
    source = tmp_path / "small.py"
    start = "time.sleep(600)" if phase == "start" else "..."
    stop = "time.sleep(600)" if phase == "hanging stop" else "..."
    source.write_text(PLUGIN.format(start=start, stop=stop))
    body = f"""
import warnings
plugin = isolate("file:" + sys.argv[1])
program = ExecSandbox("sh", "-c", "(setsid sleep 600 &)" + OBEY)
{HOSTS[phase]}
"""
    for number, moment in enumerate(MOMENTS):
        how = "stopped" if number % 3 == 2 else "killed"
        run_warden(body, str(source), how=how, moment=moment)


COMETS = """
import os
for _ in range(4):
    if not os.fork():
        while True:
            os.setsid() if {leaves} and os.getsid(0) != os.getpid() else None
            if os.fork():
                os._exit(0)
os.write(1, b'{{"ready":true}}')
while True:
    if not os.fork():
        os._exit(0)
    os.waitpid(-1, 0)
"""


@pytest.mark.parametrize("leaves", [False, True], ids=["in-group", "leaving"])
def test_what_forks_all_the_time_does_not_get_away(run_warden: Any, leaves: bool) -> None:
    """Each lives as long as it takes to make the next."""
    program = COMETS.format(leaves=leaves)
    body = f"""
    ExecSandbox(sys.executable, "-S", "-c", {program!r}).start()
    say("now")
    signal.pause()
    """
    run_warden(body)
