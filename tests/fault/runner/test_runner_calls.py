"""Calls of what the runner serves, at levels 1 and 2: where they run, and what comes of them."""

from __future__ import annotations

import os
import signal

from plugkeep.wire.messages import Code

PLUGIN = """
    import asyncio, threading, time
    from collections.abc import Iterator
    from typing import TYPE_CHECKING, Any
    import plugkeep
    from plugkeep import current_call, expose

    if TYPE_CHECKING:
        from nowhere import Nothing

    class PluginFactory:
        name = "worker"
        host: Any
        def start(self): self.gate = threading.Event(); self.closed = []
        def stop(self): ...

        @expose
        def echo(self, value): return value
        @expose
        def greet(self, whom: str, times: int = 1) -> str: return f"hello {whom}" * times
        @expose
        def place(self): return threading.current_thread() is threading.main_thread()
        @expose(threaded=True)
        def thread(self): return threading.current_thread() is threading.main_thread()
        @expose
        async def loop(self): return asyncio.get_running_loop().is_running()
        @expose
        def wait(self): current_call().progress("waiting"); self.gate.wait(); return "waited"
        @expose(threaded=True)
        def open_gate(self): self.gate.set()
        @expose
        def patient(self):
            current_call().progress("waiting")
            while True:
                current_call().check(); time.sleep(0.001)
        @expose
        async def sleep(self):
            current_call().progress("asleep")
            try: await asyncio.sleep(1000)
            finally: self.closed.append("sleep")
        @expose
        def remaining(self): return current_call().remaining
        @expose
        def raises(self, what: str): raise eval(what)
        @expose
        def odd(self):
            class Odd(Exception):
                def __str__(self): raise RuntimeError
            raise Odd
        @expose
        def unsendable(self): return {"a": [object()]}
        @expose
        def unknown_type(self, value: "Nothing", number: "int"): return [value, number]
        @expose
        def ask(self, method, *args, **kwargs): return self.host.call(method, *args, **kwargs)
        @expose
        async def aask(self, method, *args): return await self.host.acall(method, *args)
        @expose(threaded=True)
        def task(self, method, *args): return self.host.call(method, *args)
        @expose
        def count(self, n: int):
            try:
                for i in range(n): yield i
            finally: self.closed.append("count")
            return "done"
        @expose
        async def acount(self, n: int):
            try:
                for i in range(n): yield i
            finally: self.closed.append("acount")
        @expose(threaded=True)
        def tcount(self, n: int): yield from self.count(n)
        @expose
        def iterate(self, n: int): return iter(range(n))
        @expose
        def was_closed(self): return self.closed
        @expose
        def returns_coroutine(self): return self.loop()
"""


def test_methods_run_where_they_say(serve):
    child = serve(PLUGIN)
    child.start()
    assert child.call("place") is True
    assert child.call("thread") is False
    assert child.call("loop") is True
    assert child.call("returns_coroutine") is True
    child.stop()


def test_arguments_are_bound_and_typed(serve):
    child = serve(PLUGIN)
    child.start()
    assert child.call("greet", "you") == child.call("greet", whom="you") == "hello you"
    assert child.call("greet", "you", times=2) == "hello youhello you"
    for args, kwargs, named in [
        ((), {}, "whom"),
        ((5,), {}, "'whom': expected a text, found a whole number"),
        (("you",), {"times": "two"}, "'times': expected a whole number, found a text"),
        (("you", 1, 2), {}, "too many"),
        (("you",), {"tines": 2}, "tines"),
        (("you",), {"whom": "me"}, "whom"),
    ]:
        error = child.error("greet", *args, **kwargs)
        assert error.code == Code.INVALID_PARAMS
        assert named in error.message
    assert child.error("echo").code == Code.INVALID_PARAMS  # nothing is annotated there
    assert child.call("unknown_type", {"a": 1}, 2) == [{"a": 1}, 2]
    assert child.error("unknown_type", {"a": 1}, "2").code == Code.INVALID_PARAMS
    child.stop()


def test_what_a_method_raises_is_told_and_the_plugin_lives_on(serve):
    child = serve(PLUGIN)
    child.start()
    error = child.error("raises", "KeyError('x')")
    assert (error.code, error.message) == (Code.RAISED, "'x'")
    assert error.data["type"] == "KeyError"
    assert "in raises" in error.data["traceback"]
    assert "plugkeep/" not in error.data["traceback"]
    for fatal in ("SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()"):
        assert child.error("raises", fatal).data["type"] == fatal.partition("(")[0]
    # Errors of the wire's own kind that a method raises are the method's.
    assert child.error("raises", "plugkeep.NotStartedError('x')").code == Code.RAISED
    assert child.error("raises", "plugkeep.CallTimeoutError('x', timeout=1)").code == Code.RAISED
    assert child.error("odd").data["type"].endswith("Odd")
    error = child.error("unsendable")
    assert error.code == Code.UNSENDABLE
    assert "['a'][0]" in error.message
    error = child.error("ech")
    assert error.code == Code.METHOD_NOT_FOUND
    assert "'echo'" in error.message
    assert child.call("echo", "alive") == "alive"
    child.stop()


UNMARKED = """
    from functools import cached_property
    from plugkeep import expose
    class PluginFactory:
        name = "worker"
        part = dict
        def start(self): self.made = lambda: 1
        def stop(self): ...
        {mark}
        def marked(self): ...
        def plain(self): ...
        async def later(self): ...
        @staticmethod
        def free(): ...
        @classmethod
        def of_class(cls): ...
        def _private(self): ...
        @property
        def careful(self): raise AssertionError
        @cached_property
        def slow(self): raise AssertionError
"""


def test_a_method_that_is_not_marked_is_told_from_one_that_is_not_there(serve):
    child = serve(UNMARKED.format(mark="@expose(name='list')"))
    child.start()
    for name in ("plain", "later", "free", "of_class", "made"):
        error = child.error(name)
        assert error.code == Code.METHOD_NOT_FOUND
        assert "the plugin has one, but does not mark it with @expose" in error.message, name
    assert "callers call it 'list'" in child.error("marked").message
    for name in ("gone", "start", "stop", "_private", "careful", "slow", "part", "$/gone"):
        error = child.error(name)
        assert error.code == Code.METHOD_NOT_FOUND
        assert "expose" not in error.message, name
    child.stop()


def test_a_plugin_that_marks_no_method_is_told_so(serve):
    child = serve(UNMARKED.format(mark=""))
    child.start()
    assert "the plugin has one, but does not mark it with @expose" in child.error("plain").message
    assert "the plugin marks none with @expose" in child.error("gone").message
    assert "expose" not in child.error("$/gone").message
    child.stop()


def test_while_the_main_thread_is_busy_all_else_goes_on(serve):
    child = serve(PLUGIN)
    child.start()
    waiting = child.request("wait")
    assert child.progress() == "waiting"
    assert child.call("$/ping") is None
    assert child.call("thread") is False
    assert child.call("loop") is True
    queued = child.request("echo", 1)
    cancelled = child.request("echo", 2)
    late = child.request("echo", 3, _={"deadline_ms": 0})
    child.notify("$/cancel", id=cancelled)
    child.call("open_gate")
    assert child.answer(waiting).result == "waited"
    assert child.answer(queued).result == 1
    assert child.answer(cancelled).error.code == Code.CANCELLED
    assert child.answer(late).error.code == Code.DEADLINE_PASSED
    child.stop()


def test_a_quick_answer_does_not_wait_for_the_slow_call_behind_it(serve):
    child = serve(PLUGIN)
    child.start()
    frames = [
        child.connection.request(method, args, {}, None)
        for method, args in (("echo", ("first",)), ("greet", ("x",)), ("wait", ()))
    ]
    os.write(child.to, b"".join(bytes(sending[0]) for _, sending in frames))
    first, second, slow = (number for number, _ in frames)
    assert child.answer(first).result == "first"
    assert child.answer(second).result == "hello x"
    child.call("open_gate")
    assert child.answer(slow).result == "waited"
    child.stop()


def test_calls_are_cancelled_and_their_time_is_up(serve):
    child = serve(PLUGIN)
    child.start()
    for method in ("patient", "sleep"):
        number = child.request(method)
        child.progress()
        child.notify("$/cancel", id=number)
        assert child.answer(number).error.code == Code.CANCELLED
        number = child.request(method, _={"deadline_ms": 50})
        child.progress()
        assert child.answer(number).error.code == Code.DEADLINE_PASSED
    assert child.call("was_closed") == ["sleep", "sleep"]
    assert child.call("remaining") is None
    remaining = child.answer(child.request("remaining", _={"deadline_ms": 60_000})).result
    assert 0 < remaining <= 60
    child.stop()


def test_calls_that_are_cancelled_at_once_are_answered(serve):
    child = serve(PLUGIN)
    child.start()
    for _ in range(20):
        for method in ("sleep", "patient", "thread"):
            number = child.request(method)
            child.notify("$/cancel", id=number)
            answer = child.answer(number)
            assert answer.error is None or answer.error.code == Code.CANCELLED
    child.stop()


def test_streams_send_what_there_is_credit_for(serve):
    child = serve(PLUGIN)
    child.start()
    for method, result in (
        ("count", "done"),
        ("acount", None),
        ("tcount", None),
        ("iterate", None),
    ):
        number = child.request(method, 5, _={"credit": 2})
        assert [child.chunk(), child.chunk()] == [0, 1]
        assert child.call("echo", "between") == "between"  # it holds up nobody
        child.grant(number, 10)
        assert [child.chunk() for _ in range(3)] == [2, 3, 4]
        assert child.answer(number).result == result
        assert child.error(method, 5).code == Code.INVALID_PARAMS
    assert child.error("echo", 5, _={"credit": 1}).code == Code.INVALID_PARAMS
    child.stop()


def test_a_stream_that_is_cancelled_is_closed(serve):
    child = serve(PLUGIN)
    child.start()
    for method in ("count", "acount", "tcount"):
        number = child.request(method, 1000, _={"credit": 1})
        assert child.chunk() == 0
        child.notify("$/cancel", id=number)
        assert child.answer(number).error.code == Code.CANCELLED
    assert child.call("was_closed") == ["count", "acount", "count"]
    child.stop()


def test_many_streams_and_calls_take_turns(serve):
    child = serve(PLUGIN)
    child.start()
    streams = [child.request("count", 500, _={"credit": 1000}) for _ in range(5)]
    calls = [child.request("echo", index) for index in range(200)]
    assert [child.answer(number).result for number in calls] == list(range(200))
    assert [child.answer(number).result for number in streams] == ["done"] * 5
    child.stop()


def test_the_host_is_called_from_every_kind_of_method(serve):
    child = serve(PLUGIN)
    child.start(host=("shelf",))
    for method in ("ask", "aask", "task"):
        number = child.request(method, "shelf.read", 1)
        asked = child.asked()
        assert (asked.method, asked.args, asked.within) == ("host.shelf.read", [1], number)
        child.reply(asked, "book")
        assert child.answer(number).result == "book"
        number = child.request(method, "safe", 1)
        child.refuse(child.asked(), Code.NOT_GRANTED, "not granted")
        assert child.answer(number).error.data["type"] == "plugkeep.errors.NotGrantedError"
    child.stop()


def test_calls_within_a_call_are_nested_and_others_wait(serve):
    child = serve(PLUGIN)
    child.start(host=("x",))
    outer = child.request("ask", "x")
    asked = child.asked()
    other = child.request("echo", "other")
    within = child.request("echo", "within", _={"within": asked.id})
    assert child.answer(within).result == "within"
    assert not any(getattr(event, "id", None) == other for event in child.events)
    stream = child.request("count", 3, _={"within": asked.id, "credit": 2})
    assert [child.chunk(), child.chunk()] == [0, 1]
    child.grant(stream, 2)
    assert child.answer(stream).result == "done"
    child.reply(asked, "end")
    assert child.answer(outer).result == "end"
    assert child.answer(other).result == "other"
    child.stop()


def test_the_main_thread_serves_what_it_waits_for_by_way_of_others(serve):
    child = serve(PLUGIN)
    child.start(host=("x",))
    outer = child.request("ask", "x")
    first = child.asked()
    middle = child.request("task", "x", _={"within": first.id})
    second = child.asked()
    inner = child.request("echo", "deep", _={"within": second.id})
    assert child.answer(inner).result == "deep"
    child.reply(second, 2)
    assert child.answer(middle).result == 2
    child.reply(first, 1)
    assert child.answer(outer).result == 1
    child.stop()


def test_nesting_has_a_limit(serve):
    child = serve(PLUGIN)
    child.start(host=("x",))
    calls, within = [], None
    for _ in range(32):
        calls.append(child.request("ask", "x", _={"within": within} if within else {}))
        asked = child.asked()
        within = asked.id
        calls[-1] = (calls[-1], asked)
    assert child.error("echo", 1, _={"within": within}).code == Code.TOO_DEEP
    for number, asked in reversed(calls):
        child.reply(asked, "up")
        assert child.answer(number).result == "up"
    child.stop()


def test_stop_ends_what_is_under_way(serve):
    child = serve(PLUGIN)
    child.start()
    under_way = [child.request(method) for method in ("sleep", "patient")]
    child.progress(), child.progress()
    under_way.append(child.request("count", 9, _={"credit": 1}))
    queued = child.request("echo", 1)
    stop = child.request("$/stop")
    for number in (*under_way, queued):
        assert child.answer(number).error.code == Code.NOT_RUNNING
    assert child.answer(stop).result is None
    assert child.status() == 0


def test_a_flood_of_logs_and_calls_comes_through_when_the_host_reads_late(serve):
    child = serve(
        """
        import logging, sys
        from plugkeep import expose
        class PluginFactory:
            name = "talker"
            def start(self): ...
            def stop(self): ...
            @expose
            def talk(self, n):
                for i in range(n): logging.getLogger("talk").info("%d %s", i, "x" * 1000)
                sys.stderr.write("all said\\n")
                return n
        """
    )
    child.start()
    number = child.request("talk", 3000)  # far more than pipes and our patience hold
    child.await_stderr("all said")  # nothing has been read until then
    assert child.answer(number).result == 3000
    assert child.call("talk", 1) == 1  # there is room for records again, and that some are missing
    child.log("log records were lost")
    child.stop()


def test_a_child_that_crashes_is_the_hosts_affair(serve):
    child = serve(PLUGIN)
    child.start()
    os.kill(child.process.pid, signal.SIGKILL)
    assert child.status() == -signal.SIGKILL
