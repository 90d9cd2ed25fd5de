"""The host is gone, and nobody kills the plugin: it ends itself, whatever it is doing.

There is no keeper here, and the kernel has not been asked for anything either.
"""

from __future__ import annotations

import os
import signal

import pytest

BUSY = """
    import asyncio, os, signal, sys, threading, time
    import plugkeep
    from plugkeep.runner import _host_watch
    _host_watch.GRACE = 0.3

    class PluginFactory:
        name = "busy"
        def start(self): ...
        def stop(self): {stop}
        @plugkeep.expose
        def spin(self):
            os.write(2, b"here")
            while True: pass
        @plugkeep.expose
        def sleep(self):
            os.write(2, b"here")
            while True: time.sleep(600)
        @plugkeep.expose
        async def block(self):
            os.write(2, b"here")
            while True: time.sleep(600)
        @plugkeep.expose
        def thread(self):
            threading.Thread(target=time.sleep, args=(600,)).start()
            os.write(2, b"here")
        @plugkeep.expose
        def child(self):
            if not os.fork():
                os.write(2, b"here")
                signal.pause()
            signal.pause()
        @plugkeep.expose
        def nothing(self):
            os.write(2, b"here")
"""
PASS, HANG = "...", "time.sleep(600)"


@pytest.mark.parametrize(
    ("method", "stop"),
    [
        *((method, PASS) for method in ("spin", "sleep", "block", "thread", "child")),
        ("nothing", HANG),
        ("nothing", "threading.Thread(target=time.sleep, args=(600,)).start()"),
    ],
    ids=["spin", "sleep", "block", "thread", "child", "stop", "after-stop"],
)
def test_a_plugin_that_does_not_stop_is_ended_with_its_group(serve, level, method, stop):
    child = serve(BUSY.format(stop=stop))
    child.start()
    child.request(method)
    child.await_stderr("here")
    child.hang_up()
    assert child.status() == -signal.SIGKILL
    child.stderr()  # up to its end: nobody has it open any more
    child.stdout()


def test_a_plugin_whose_start_hangs_is_ended(serve, level):
    start = 'def start(self): os.write(2, b"here"); time.sleep(600)'
    child = serve(BUSY.format(stop=PASS).replace("def start(self): ...", start))
    child.await_ready()
    child.request("$/start", config=None, host=[])
    child.await_stderr("here")
    child.hang_up()
    assert child.status() == -signal.SIGKILL


def tell_to_stop(child, level):
    """Send the stop message after which a host may hang up at once."""
    frame = b'{"cmd":"stop"}\n'
    if level == 2:
        body = bytes([0x81, 0xA3]) + b"cmd" + bytes([0xA4]) + b"stop"
        frame = len(body).to_bytes(4, "little") * 2 + bytes(4) + body
    os.write(child.to, frame)
    child.hang_up()


def test_a_plugin_that_was_told_to_stop_has_as_long_as_its_host_gives_it(serve, level):
    child = serve(
        """
        import os, threading
        from plugkeep.runner import _host_watch, runner
        _host_watch.GRACE = 0.0
        looked = threading.Event()
        class Watch(_host_watch.HostWatch):
            def _see_to_the_end(self):
                super()._see_to_the_end()
                looked.set()
        runner.HostWatch = Watch

        class PluginFactory:
            name = "slow"
            def start(self): ...
            def stop(self):
                looked.wait()
                os.write(2, b"in peace")
        """
    )
    child.start()
    tell_to_stop(child, level)
    child.await_stderr("in peace")
    assert child.status() == 0


def test_one_that_was_told_to_stop_and_is_orphaned_since_is_ended_all_the_same(serve, level):
    child = serve(
        BUSY.format(stop=HANG).replace("= 0.3", "= 0.3; os.getppid = iter(range(99)).__next__")
    )
    child.start()
    tell_to_stop(child, level)
    assert child.status() == -signal.SIGKILL
