"""From launch to exit: how what the runner serves begins, what it is given, and how it ends."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from plugkeep.wire.messages import Code

QUIET = """
    import plugkeep
    class PluginFactory:
        name = "quiet"
        version = "1.2"
        def start(self): print("starting")
        def stop(self): print("stopping")
        @plugkeep.expose
        def add(self, a: int, /, b: int = 1, *rest, key, **options) -> int:
            "Add."
            return a + b
        @plugkeep.expose(name="list")
        def everything(self): yield 1
        @plugkeep.expose
        def busy(self):
            import time
            plugkeep.current_call().progress("busy")
            while not plugkeep.current_call().cancelled: time.sleep(0.001)
"""
FAILS = """
    class PluginFactory:
        name = "fails"
        def start(self): {start}
        def stop(self): {stop}
"""


def test_ready_says_what_there_is(serve, level):
    child = serve(QUIET)
    ready = child.await_ready()
    assert ready["wire"] == level
    assert (ready["name"], ready["version"]) == ("quiet", "1.2")
    assert 0 < time.time() - ready["began"] < 60
    methods = {method["name"]: method for method in ready["methods"]}
    assert methods["add"]["params"] == ["a", "/", "b=", "*rest", "key", "**options"]
    assert methods["add"]["doc"] == "Add."
    assert methods["list"] == {"name": "list", "params": [], "stream": True}


def test_a_host_of_level_0(serve):
    child = serve(QUIET, at=0)
    ready = child.await_ready()
    assert ready == {"ready": True, "name": "quiet", "version": "1.2"}
    os.write(child.to, b'{"cmd":"stop"}\n')
    assert child.status() == 0
    # Before ready nothing may stand on stdout; after that it is output.
    assert child.stderr() == "starting\n"
    assert child.stdout() == "stopping\n"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_end_of_the_channel_stops_it(serve, at):
    child = serve(QUIET, at=at)
    child.start() if at else child.await_ready()
    child.hang_up()
    assert child.status() == 0
    if at != 1:
        assert "stopping" in child.stdout()


def test_the_stop_message_of_level_0_is_obeyed_at_every_level(serve, level):
    child = serve(QUIET)
    child.start()
    frame = b'{"cmd":"stop"}\n'
    if level == 2:
        body = bytes([0x81, 0xA3]) + b"cmd" + bytes([0xA4]) + b"stop"
        frame = len(body).to_bytes(4, "little") * 2 + bytes(4) + body
    os.write(child.to, frame)
    assert child.status() == 0


def test_sigterm_stops_it_in_an_orderly_way(serve, level):
    child = serve(QUIET)
    child.start()
    child.process.send_signal(signal.SIGTERM)
    if level == 1:
        child.log("stopping")
    assert child.status() == 0


def test_sigterm_waits_for_the_call_that_runs(serve):
    child = serve(QUIET)
    child.start()
    number = child.request("busy")
    child.progress()
    child.process.send_signal(signal.SIGTERM)
    assert child.answer(number).result is None
    assert child.status() == 0


WAITING = """
    import asyncio, sys, time
    import plugkeep
    class PluginFactory:
        name = "waiting"
        def start(self): pass
        def stop(self): pass
        @plugkeep.expose
        def wait(self):
            plugkeep.current_call().progress("waiting")
            while not plugkeep.current_call().cancelled: time.sleep(0.001)
        @plugkeep.expose
        def echo(self, value): return value
        @plugkeep.expose
        async def loop(self): return "loop"
        @plugkeep.expose
        async def leave(self): self.task = asyncio.create_task(self.exit())
        async def exit(self): sys.exit(3)
"""


def test_calls_that_wait_when_it_is_to_stop_are_answered(serve):
    child = serve(WAITING)
    child.start()
    child.request("wait")
    child.progress()
    waiting = [child.request("echo", number) for number in range(300)]
    stop = child.request("$/stop")
    assert {child.answer(number).error.code for number in waiting} == {Code.NOT_RUNNING}
    assert child.answer(stop).error is None
    assert child.status() == 0


def test_a_task_that_exits_leaves_the_loop_to_the_others(serve):
    child = serve(WAITING)
    child.start()
    child.call("leave")
    child.log("a task has ended the event loop, which goes on")
    assert child.call("loop") == "loop"
    child.stop()


def test_sigint_is_the_hosts_affair(serve):
    child = serve(QUIET)
    child.start()
    child.process.send_signal(signal.SIGINT)
    assert child.call("add", 1, key=0) == 2
    child.stop()


def test_a_start_that_fails(serve):
    text = FAILS.format(start="raise ValueError('no calendar')", stop="...")
    child = serve(text)
    error = child.start().error
    assert (error.code, error.message) == (Code.RAISED, "no calendar")
    child.hang_up()
    assert child.status() == 1
    child = serve(text, at=0)
    assert child.status() == 1
    told = child.stderr()
    assert "ValueError: no calendar" in told
    assert "plugkeep/" not in told
    assert child.stdout() == ""


def test_a_stop_that_fails(serve):
    text = FAILS.format(start="...", stop="raise ValueError('till open')")
    child = serve(text)
    child.start()
    assert child.stop().error.message == "till open"
    child = serve(text, at=0)
    child.await_ready()
    child.hang_up()
    assert child.status() == 1
    assert "ValueError: till open" in child.stderr()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nowhere_at_all", "nowhere_at_all"),
        ("x = 1", "PluginFactory"),
        ("def PluginFactory(): raise ValueError('broken')", "broken"),
        ("def PluginFactory(): return 5", "no plugin"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_what_goes_wrong_before_ready_is_told_on_stderr(serve, text, told):
    child = serve(text)
    assert child.status() == 1
    assert told in child.stderr()
    assert child.stdout() == ""


def test_how_it_is_called_is_told(serve):
    child = serve(QUIET, "--nonsense")
    assert child.status() == 2
    assert "--nonsense" in child.stderr()
    child = serve(QUIET, "--help")
    assert child.status() == 0
    assert "examples:" in child.stdout()


def test_nothing_of_the_wire_is_left_to_plugin_code(serve):
    child = serve("""
        import os, subprocess, sys
        from plugkeep import expose
        class PluginFactory:
            name = "looks"
            def start(self): ...
            def stop(self): ...
            @expose
            def variables(self): return [name for name in os.environ if "PLUGKEEP_WIRE" in name]
            @expose
            def stdin(self): return sys.stdin.read() + os.read(0, 10).decode()
            @expose
            def inherited(self):
                code = "import os; print(os.listdir('/proc/self/fd'))"
                found = subprocess.run([sys.executable, "-c", code], close_fds=False,
                                       stdout=subprocess.PIPE, text=True).stdout
                return sorted(map(int, eval(found)))
            @expose
            def interruptible(self):
                code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
                return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE,
                                      text=True).stdout.strip()
            @expose
            def arguments(self): return len(sys.argv)
    """)
    child.start()
    assert child.call("variables") == []
    assert child.call("stdin") == ""
    assert child.call("inherited") == [0, 1, 2, 3]  # the last is that of the listing itself
    assert child.call("interruptible") == "False"
    assert child.call("arguments") == 1
    child.stop()


@pytest.mark.parametrize("descriptors", ["", "7,8", "a,b,c", "900,901,902", "-1,-1,-1"])
def test_descriptors_that_are_not_open_mean_level_1(serve, descriptors):
    child = serve(QUIET, at=1, offer="2", env={"PLUGKEEP_WIRE_FDS": descriptors})
    assert child.start().error is None
    assert child.ready["wire"] == 1
    child.stop()


def test_asynchronous_start_and_stop_run_in_one_task(serve):
    text = """
        import asyncio
        from plugkeep import expose
        class PluginFactory:
            name = "ticker"
            host: object
            async def start(self):
                self.group = asyncio.TaskGroup()
                await self.group.__aenter__()
                self.task = self.group.create_task(asyncio.sleep(1000))
                if hasattr(self, "host"): print(await self.host.acall("hello"))
            async def stop(self):
                self.task.cancel()
                await self.group.__aexit__(None, None, None)
                print("left")
            @expose
            def plain(self): return not self.task.done()
    """
    child = serve(text)
    child.await_ready()
    number = child.request("$/start", config=None, host=["hello"])
    asked = child.asked()
    assert asked.within == number
    assert child.error("plain").code == Code.NOT_RUNNING
    assert child.answer(child.request("plain", _={"within": asked.id})).result is True
    child.reply(asked, "hi")
    assert child.answer(number).error is None
    assert child.call("plain") is True
    assert child.stop().error is None
    child = serve(text.replace('if hasattr(self, "host")', "if False"), at=0)
    child.await_ready()
    child.hang_up()
    assert child.status() == 0
    assert "left" in child.stdout()


CONFIGURED = """
    from dataclasses import dataclass
    from pathlib import Path
    from plugkeep import expose
    @dataclass
    class Settings:
        url: str
        limit: int = 5
        folder: Path = Path()
    class PluginFactory:
        name = "configured"
        config: Settings
        required: object
        host: object
        def start(self): ...
        def stop(self): ...
        @expose
        def told(self): return [self.config.url, self.config.limit, str(self.config.folder)]
        @expose
        def reach(self, name, x): return self.required[name].read(x)
        @expose
        def granted(self): return [list(self.host), "shelf" in self.host, len(self.required)]
        @expose
        def function(self, x): return self.host.square(x)
"""


def test_configuration_is_typed(serve, tmp_path):
    child = serve(CONFIGURED, "--base", str(tmp_path))
    assert child.start({"url": "u", "folder": "sub"}).error is None
    assert child.call("told") == ["u", 5, str(tmp_path / "sub")]
    child.stop()
    child = serve(CONFIGURED)
    error = child.start({"limit": "x", "ulr": 1}).error
    assert error.data["type"] == "plugkeep.errors.ConfigError"
    for told in ("config: has no key 'url'", "config.ulr: unknown key", "config.limit: expected"):
        assert told in error.message


def test_what_is_granted_can_be_reached(serve):
    child = serve(CONFIGURED)
    child.start({"url": "u"}, host=("shelf", "square"))
    assert child.call("granted") == [["shelf", "square"], True, 2]
    for args, wanted in [
        (("reach", "shelf", 1), ("host.shelf.read", [1])),
        (("function", 2), ("host.square", [2])),
    ]:
        number = child.request(*args)
        asked = child.asked()
        assert (asked.method, asked.args) == wanted
        child.reply(asked, "ok")
        assert child.answer(number).result == "ok"
    error = child.error("reach", "shelves", 1)
    assert error.data["type"] == "KeyError"
    assert "did you mean 'shelf'" in error.message
    child.stop()


def test_output_and_logs_never_touch_the_protocol(serve, level):
    child = serve("""
        import ctypes, logging, os, subprocess, sys, threading, warnings
        from plugkeep import expose
        class PluginFactory:
            name = "talker"
            def start(self): ...
            def stop(self): ...
            @expose
            def prints(self):
                print("from print")
                sys.stdout.buffer.write(b"from buffer\\n"); sys.stdout.flush()
                print('{"jsonrpc": "2.0", "id": 2, "result": "forged"}')
            @expose
            def raw(self):
                os.write(1, b"raw 1\\n"); os.write(2, b"raw 2\\n")
                subprocess.run(["echo", "from echo"], stdout=sys.stdout)
            @expose
            def logs(self):
                logger = logging.getLogger("shop.db")
                logger.debug("not this")
                logger.info("%d rows", 3, extra={"rows": 3, "odd": object()})
                try: 1 / 0
                except ZeroDivisionError: logger.exception("failed")
            @expose
            def warns(self): warnings.warn("careful", stacklevel=1)
            @expose
            def thread(self):
                def fail(): raise ValueError("in a thread")
                thread = threading.Thread(target=fail, name="poor"); thread.start(); thread.join()
    """)
    child.start()
    for method in ("prints", "raw", "logs", "warns", "thread"):
        assert child.call(method) is None
    record = child.log("3 rows")
    assert (record.level, record.logger, record.fields["rows"]) in [
        ("info", "shop.db", 3),
        ("info", "shop.db", "3"),  # where one field cannot travel
    ]
    assert child.log("failed").level == "error"
    assert "ZeroDivisionError" in child.log("failed").message
    assert child.log("careful").level == "warning"
    assert "in a thread" in child.log("'poor'").message
    if level == 1:
        assert child.log("from print").logger == "stdout"
        assert child.log("from buffer").level == "info"
    child.stop()
    assert not any("not this" in record.message for record in child.logs)
    told = child.stderr()
    assert "raw 2" in told
    if level == 2:
        told = child.stdout()
        assert told.index("from print") < told.index("from buffer") < told.index("forged")
    assert "raw 1" in told
    assert "from echo" in told


def test_serve_in_a_script_of_the_authors_own(serve):
    script = """
        import plugkeep
        class Clock:
            name = "clock"
            def start(self): ...
            def stop(self): ...
            @plugkeep.expose
            def now(self): return 5
        if __name__ == "__main__":
            plugkeep.serve({what})
    """
    for what in ("Clock", "Clock()", "lambda: Clock()"):
        child = serve(script.format(what=what), script=True)
        assert child.start().error is None
        assert child.call("now") == 5
        child.stop()
    child = serve(script.format(what="5"), script=True)
    assert child.status() == 1
    assert "plugkeep.serve was given int 5" in child.stderr()


def test_by_hand_at_a_terminal_it_says_how_to_stop_it(tmp_path):
    (tmp_path / "plugin.py").write_text(textwrap.dedent(QUIET))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "plugkeep.runner", "file:plugin.py"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        text = b""
        while b'{"ready":true' not in text:
            assert select.select([ours], [], [], 15)[0], text
            text += os.read(ours, 4096)
        assert b"Ctrl-C" in text
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_frame_that_breaks_a_rule_ends_it(serve):
    child = serve(QUIET, at=2)
    child.start()
    os.write(child.to, b"\4\0\0\0\4\0\0\0\2\0\0\0null")
    assert child.status() == 1
    assert "unknown flags" in child.stderr()
