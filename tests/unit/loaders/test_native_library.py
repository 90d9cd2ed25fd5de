"""Plain native libraries: what the host does with them, and what it refuses."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plugkeep.errors import (
    AbiVersionError,
    AlreadyStartedError,
    CallError,
    InvalidResponseError,
    LifecycleError,
    MethodNotFoundError,
    NativeCallError,
    NativeError,
    NoPluginError,
    NotStartedError,
    ReentrantError,
    SymbolNotFoundError,
    WrongTypeError,
)
from plugkeep.loaders import load, load_so
from plugkeep.loaders.native import NativePlugin

Build = Callable[..., Path]
PATIENCE = 30.0


class Counts:
    """The counters in the library, as they have changed since the test began."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._before = {name: self._value(name) for name in self._NAMES}

    _NAMES = ("created", "destroyed", "started", "stopped", "called", "released", "overlapped")

    def _value(self, name: str) -> int:
        return ctypes.c_int.in_dll(self._library, name).value

    def __getattr__(self, name: str) -> int:
        return self._value(name) - self._before[name]

    def set(self, name: str, value: int) -> None:
        ctypes.c_int.in_dll(self._library, name).value = value


@pytest.fixture
def counts(counting: Path) -> Iterator[Counts]:
    gc.collect()  # what another test has left is destroyed now, not counted here
    counts = Counts(counting)
    yield counts
    counts.set("start_result", 0)
    counts.set("stop_result", 0)
    counts.set("interrupted", 0)


@pytest.fixture
def plugin(counting: Path, counts: Counts) -> Iterator[NativePlugin]:
    plugin = load_so(counting)()
    assert isinstance(plugin, NativePlugin)
    yield plugin
    plugin.close()


def test_a_library_is_loaded_by_its_path_in_every_form(counting: Path) -> None:
    for factory in (
        load_so(counting),
        load_so(str(counting)),
        load(f"so:{counting}"),
        load(counting),
        load(f"./{counting.name}", base=counting.parent),
    ):
        assert factory().name == "counting"
    assert "counting" in repr(load_so(counting)())


def test_the_suffix_does_not_matter_to_those_who_say_what_it_is(
    counting: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "plugin.bin"
    odd.symlink_to(counting)
    assert load_so(odd)().name == "counting"
    assert load(f"so:{odd}")().name == "counting"


# --- Life and ownership -----------------------------------------------------------------------


def test_loading_makes_nothing_and_each_call_makes_one(counting: Path, counts: Counts) -> None:
    factory = load_so(counting)
    assert counts.created == 0
    plugins = [factory() for _ in range(3)]
    assert (counts.created, counts.destroyed) == (3, 0)
    del plugins
    gc.collect()
    assert (counts.created, counts.destroyed) == (3, 3)


def test_closing_destroys_once(plugin: Any, counts: Counts) -> None:
    plugin.close()
    plugin.close()
    assert counts.destroyed == 1
    del plugin
    gc.collect()
    assert counts.destroyed == 1


def test_what_runs_is_stopped_before_it_is_destroyed(
    counting: Path, plugin: Any, counts: Counts
) -> None:
    plugin.start()
    plugin.close()
    assert (counts.stopped, counts.destroyed) == (1, 1)
    dropped = load_so(counting)()
    dropped.start()
    del dropped
    gc.collect()
    assert (counts.stopped, counts.destroyed) == (2, 2)


def test_a_closed_plugin_does_nothing_any_more(plugin: Any, counts: Counts) -> None:
    plugin.start()
    plugin.close()
    with pytest.raises(NotStartedError, match="is closed; its factory makes a new one"):
        plugin.start()
    for forbidden in (plugin.stop, lambda: plugin.call("echo")):
        with pytest.raises(NotStartedError, match="'counting' is not running"):
            forbidden()
    assert (counts.started, counts.stopped, counts.called) == (1, 1, 0)


def test_the_order_of_the_header_is_kept_whatever_the_user_does(
    plugin: Any, counts: Counts
) -> None:
    with pytest.raises(NotStartedError, match="'counting' is not running"):
        plugin.stop()
    with pytest.raises(NotStartedError):
        plugin.call("echo")
    plugin.start()
    with pytest.raises(AlreadyStartedError, match="'counting' is running already"):
        plugin.start()
    plugin.stop()
    with pytest.raises(NotStartedError):
        plugin.call("echo")
    plugin.start()
    assert (counts.started, counts.stopped, counts.called) == (2, 1, 0)


def test_a_failed_start_says_why_and_may_be_tried_again(plugin: Any, counts: Counts) -> None:
    counts.set("start_result", 7)
    with pytest.raises(
        NativeError, match=r"start of plugin 'counting' failed \(7\): start returns 7"
    ) as caught:
        plugin.start()
    assert (caught.value.code, caught.value.plugin) == (7, "counting")
    assert isinstance(caught.value, LifecycleError)
    with pytest.raises(NotStartedError):
        plugin.stop()
    counts.set("start_result", 0)
    plugin.start()
    plugin.stop()


def test_a_failed_stop_is_a_stop_all_the_same(plugin: Any, counts: Counts) -> None:
    counts.set("stop_result", -1)
    plugin.start()
    with pytest.raises(NativeError, match=r"stop .* failed \(-1\): stop returns -1") as caught:
        plugin.stop()
    assert caught.value.code == -1
    with pytest.raises(NotStartedError):
        plugin.stop()
    plugin.start()


def test_ctrl_c_during_start_leaves_it_stopped(plugin: Any, counts: Counts) -> None:
    counts.set("interrupted", 1)
    with pytest.raises(KeyboardInterrupt):
        plugin.start()
    assert (counts.started, counts.stopped) == (1, 1), "what had started is stopped again"
    counts.set("start_result", 1)
    with pytest.raises(KeyboardInterrupt):
        plugin.start()
    assert (counts.started, counts.stopped) == (2, 1), "what had not is not"
    counts.set("interrupted", 0)
    counts.set("start_result", 0)
    plugin.start()


def test_ctrl_c_during_a_call_loses_nothing(plugin: Any, counts: Counts) -> None:
    plugin.start()
    counts.set("interrupted", 1)
    with pytest.raises(KeyboardInterrupt):
        plugin.call("echo")
    assert counts.released == 1
    counts.set("interrupted", 0)
    assert plugin.call("echo") == []


AT_EXIT = """
import sys
from plugkeep import load_so
plugin = load_so(sys.argv[1])()
plugin.start()
"""


def test_the_end_of_the_interpreter_stops_and_destroys(build: Build) -> None:
    library = build(
        """
        #include <plugkeep.h>
        #include <stdio.h>
        static int start(const plugkeep_plugin *self) { return !self; }
        static int stop(const plugkeep_plugin *self) { return puts("stop"), !self; }
        static void destroy(const plugkeep_plugin *self) { puts(self->name); }
        static const plugkeep_plugin plugin = {
            PLUGKEEP_HEAD, .name = "last", .start = start, .stop = stop, .destroy = destroy,
        };
        const plugkeep_plugin *PluginFactory(void) { return &plugin; }
        """
    )
    command = [sys.executable, "-c", AT_EXIT, str(library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stop\nlast\n", "")


# --- Calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "request_"),
    [
        ((), {}, []),
        ((1, "zwei", None, [3.5, True]), {}, [1, "zwei", None, [3.5, True]]),
        ((), {"a": 1, "b": {"c": []}}, {"a": 1, "b": {"c": []}}),
        ((1,), {"a": 2}, {"$args": [1], "$kwargs": {"a": 2}}),
        ((), {"$args": 1, "$$x": 2}, {"$$args": 1, "$$$x": 2}),
        (('é😀\x00"\n',), {}, ['é😀\x00"\n']),
        (("x" * 1_000_000,), {}, ["x" * 1_000_000]),
    ],
)
def test_arguments_arrive_as_the_header_says(
    plugin: Any, counts: Counts, args: tuple[Any, ...], kwargs: dict[str, Any], request_: Any
) -> None:
    plugin.start()
    assert plugin.call("echo", *args, **kwargs) == request_
    assert (counts.called, counts.released) == (1, 1)


def test_text_arrives_as_utf8_and_not_as_escapes(plugin: Any) -> None:
    plugin.start()
    with pytest.raises(NativeCallError, match=r'\["é😀"\]'):
        plugin.call("fail", "é😀")


def test_answers_without_a_value_and_from_static_memory(plugin: Any, counts: Counts) -> None:
    plugin.start()
    assert plugin.call("nothing") is None
    assert plugin.call("static") == [1, 2]
    assert counts.released == 0


def test_a_failed_call_says_why_and_releases_what_it_had_answered(
    plugin: Any, counts: Counts
) -> None:
    plugin.start()
    with pytest.raises(
        NativeCallError, match=r"method 'fail' of plugin 'counting' failed \(42\): no �good: \[5\]"
    ) as caught:
        plugin.call("fail", 5)
    assert caught.value.code == 42
    assert isinstance(caught.value, CallError)
    assert counts.released == 1
    assert plugin.call("echo", 1) == [1], "the plugin lives on"


@pytest.mark.parametrize("method", ["absent", "", "echo\0", "écho"])
def test_a_method_that_there_is_not(plugin: Any, method: str) -> None:
    plugin.start()
    with pytest.raises(MethodNotFoundError, match="plugin 'counting' has no method"):
        plugin.call(method)


@pytest.mark.parametrize("method", ["garbage", "nan"])
def test_an_answer_that_is_not_json(plugin: Any, counts: Counts, method: str) -> None:
    plugin.start()
    with pytest.raises(InvalidResponseError, match=f"answered method '{method}' with what is not"):
        plugin.call(method)
    assert counts.released == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"bytes", TypeError),
        (float("nan"), ValueError),
        ({1, 2}, TypeError),
        ("\ud800", ValueError),
    ],
)
def test_arguments_that_are_not_json_do_not_reach_the_plugin(
    plugin: Any, counts: Counts, value: object, error: type[Exception]
) -> None:
    plugin.start()
    with pytest.raises(error):
        plugin.call("echo", value)
    assert counts.called == 0


def test_a_time_limit_is_refused_rather_than_ignored(plugin: Any, counts: Counts) -> None:
    plugin.start()
    with pytest.raises(TypeError, match=r"no call can be interrupted: leave timeout=0\.5 out"):
        plugin.call("echo", timeout=0.5)
    assert plugin.call("echo", timeout=None) == []
    assert counts.called == 1


def test_a_plugin_without_methods_or_words(build: Build) -> None:
    library = build(
        """
        #include <plugkeep.h>
        static int fails(const plugkeep_plugin *self) { return self->state == 0; }
        static int works(const plugkeep_plugin *self) { return self->state != 0; }
        static const plugkeep_plugin plugin = {
            PLUGKEEP_HEAD, .name = "mute", .start = works, .stop = fails,
        };
        const plugkeep_plugin *PluginFactory(void) { return &plugin; }
        """
    )
    plugin: Any = load_so(library)()
    plugin.start()
    with pytest.raises(MethodNotFoundError):
        plugin.call("anything")
    with pytest.raises(NativeError, match="it does not say why"):
        plugin.stop()


# --- Threads ----------------------------------------------------------------------------------


@contextmanager
def waiting_call(plugin: Any, counts: Counts) -> Iterator[Callable[[], object]]:
    """Have a thread inside a call; yields what lets it return."""
    waiting, go_on = os.pipe(), os.pipe()
    counts.set("waiting", waiting[1])
    counts.set("go_on", go_on[0])
    thread = threading.Thread(target=plugin.call, args=("wait",))
    thread.start()
    assert os.read(waiting[0], 1) == b".", "the call is running, and Python goes on"
    try:
        yield lambda: os.write(go_on[1], b".")
        thread.join(PATIENCE)
        assert not thread.is_alive()
    finally:
        for end in (*waiting, *go_on):
            os.close(end)


def test_stop_and_destroy_wait_for_a_call(plugin: Any, counts: Counts) -> None:
    plugin.start()
    with waiting_call(plugin, counts) as let_go:
        closing = threading.Thread(target=plugin.close)
        closing.start()
        assert (counts.stopped, counts.destroyed) == (0, 0)
        let_go()
        closing.join(PATIENCE)
    assert (counts.stopped, counts.destroyed, counts.overlapped) == (1, 1, 0)


def test_two_plugins_of_one_library_do_not_wait_for_each_other(
    counting: Path, plugin: Any, counts: Counts
) -> None:
    other: Any = load_so(counting)()
    plugin.start()
    with waiting_call(plugin, counts) as let_go:
        other.start()
        assert other.call("echo", 1) == [1]
        let_go()


def test_functions_of_one_plugin_never_overlap(plugin: Any, counts: Counts) -> None:
    plugin.start()
    together = threading.Barrier(8)

    def call_often() -> None:
        together.wait(PATIENCE)
        for number in range(200):
            assert plugin.call("echo", number) == [number]

    threads = [threading.Thread(target=call_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (counts.called, counts.released, counts.overlapped) == (1600, 1600, 0)


def test_a_signal_s_handler_cannot_stop_what_its_own_thread_is_inside(
    plugin: Any, counts: Counts
) -> None:
    refused: list[BaseException] = []

    def handler(*_: object) -> None:
        try:
            plugin.stop()
        except ReentrantError as error:
            refused.append(error)

    waiting, go_on = os.pipe(), os.pipe()
    counts.set("waiting", waiting[1])
    counts.set("go_on", go_on[0])

    def interrupt() -> None:
        os.read(waiting[0], 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        os.write(go_on[1], b".")

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    try:
        signal.siginterrupt(signal.SIGUSR1, False)  # the library's read goes on
        plugin.start()
        thread.start()
        plugin.call("wait")
    finally:
        thread.join(PATIENCE)
        signal.signal(signal.SIGUSR1, before)
        for end in (*waiting, *go_on):
            os.close(end)
    assert [str(error)[:47] for error in refused] == [
        "plugin 'counting' is in the middle of a call on"
    ]
    plugin.stop()


BUSY_AT_EXIT = """
import atexit, ctypes, os, sys, threading
library = ctypes.CDLL(sys.argv[1])

@atexit.register  # registered first, so the last to run
def tell():
    for name in ("started", "called", "stopped", "destroyed"):
        print(name, ctypes.c_int.in_dll(library, name).value)

from plugkeep import load_so
waiting, go_on = os.pipe(), os.pipe()
ctypes.c_int.in_dll(library, "waiting").value = waiting[1]
ctypes.c_int.in_dll(library, "go_on").value = go_on[0]
plugin = load_so(sys.argv[1])()
plugin.start()
threading.Thread(target=plugin.call, args=("wait",), daemon=True).start()
os.read(waiting[0], 1)
"""


def test_what_a_daemon_thread_is_inside_is_not_destroyed_at_the_end(counting: Path) -> None:
    command = [sys.executable, "-c", BUSY_AT_EXIT, str(counting)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "started 1\ncalled 1\nstopped 0\ndestroyed 0\n"


# --- What is refused --------------------------------------------------------------------------

#: A whole plugin, one part of which each test spoils.
SPOILT = """
#include <plugkeep.h>
int destroyed;
static int ok(const plugkeep_plugin *self) { return !self; }
static void destroy(const plugkeep_plugin *self) { destroyed += !!self; }
#ifndef HEAD
#define HEAD PLUGKEEP_HEAD
#endif
#ifndef NAME
#define NAME "spoilt"
#endif
#ifndef START
#define START ok
#endif
#ifndef STOP
#define STOP ok
#endif
#ifndef RESULT
#define RESULT &plugin
#endif
const plugkeep_plugin plugin = {
    HEAD, .name = NAME, .start = START, .stop = STOP, .destroy = destroy,
};
const plugkeep_plugin *PluginFactory(void) { return RESULT; }
"""


@pytest.mark.parametrize(
    ("flag", "error", "words"),
    [
        ("RESULT=0", WrongTypeError, "^PluginFactory has wrong type: .* returned NULL"),
        ("RESULT=(const void*)7", WrongTypeError, "returned 0x7, no address at all"),
        ("RESULT=(const void*)-8L", WrongTypeError, "^PluginFactory has wrong type: .*no address"),
        (
            "HEAD=0xdeadbeef,1,sizeof(plugkeep_plugin)",
            WrongTypeError,
            "^PluginFactory has wrong type: .* begins with 0xdeadbeef, not with PLUGKEEP_MAGIC",
        ),
        ("HEAD=PLUGKEEP_MAGIC,1,40", WrongTypeError, "whose size is 40 bytes, .* PLUGKEEP_HEAD"),
        ("NAME=0", NoPluginError, "made no plugin: its name is NULL"),
        (r'NAME="\xff"', NoPluginError, r"its name is b'\\xff', not UTF-8"),
        ("START=0", NoPluginError, "made no plugin: its start is NULL"),
        ("STOP=0", NoPluginError, "made no plugin: its stop is NULL"),
    ],
)
def test_structs_that_are_no_plugin(
    build: Build, flag: str, error: type[Exception], words: str
) -> None:
    library = build(SPOILT, f"-D{flag}")
    factory = load_so(library)
    with pytest.raises(error, match=words):
        factory()
    destroyed = ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "destroyed").value
    assert destroyed == (error is NoPluginError), "what is a plugin's struct is given back"


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_of_the_abi_names_both(build: Build, version: int) -> None:
    library = build(SPOILT, f"-DHEAD=PLUGKEEP_MAGIC,{version},sizeof(plugkeep_plugin)")
    factory = load_so(library)
    with pytest.raises(
        AbiVersionError, match=f"built for version {version} of plugkeep.h.* knows version 1"
    ) as caught:
        factory()
    assert (caught.value.found, caught.value.supported) == (version, 1)


def test_a_struct_that_has_grown_at_its_end_is_taken(build: Build) -> None:
    library = build(
        SPOILT.replace("const plugkeep_plugin plugin = {", "const struct grown plugin = {{")
        .replace(".destroy = destroy,\n};", ".destroy = destroy,\n}, 7};")
        .replace(
            "int destroyed;", "int destroyed; struct grown { plugkeep_plugin one; long more; };"
        ),
        "-DHEAD=PLUGKEEP_MAGIC,1,sizeof(struct grown)",
        "-DRESULT=&plugin.one",
    )
    assert load_so(library)().name == "spoilt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int PluginFactory = 5;", "as a data symbol of 4 bytes, not as a function"),
        ('const char PluginFactory[] = "no";', "as a data symbol of 3 bytes"),
        ("static int f(void) { return 0; } int (*PluginFactory)(void) = f;", "a data symbol of 8"),
        ("__thread long PluginFactory = 5;", "as a thread-local data symbol of 8 bytes"),
        ('__asm__(".globl PluginFactory\\n.set PluginFactory, 0");', "as an untyped symbol of 0"),
    ],
)
def test_a_symbol_that_is_no_function_is_found_out_before_loading(
    build: Build, text: str, words: str
) -> None:
    library = build(text)
    with pytest.raises(WrongTypeError, match=f"^PluginFactory has wrong type: .*{words}"):
        load_so(library)


def test_a_function_in_assembly_without_a_type_is_one(build: Build) -> None:
    library = build(
        SPOILT.replace("*PluginFactory", "*make")
        + '__asm__(".globl PluginFactory\\n.text\\nPluginFactory: jmp make@PLT\\n");'
        if os.uname().machine == "x86_64"
        else SPOILT
    )
    assert load_so(library)().name == "spoilt"


def test_a_function_chosen_while_loading_is_one(build: Build) -> None:
    library = build(
        SPOILT.replace("*PluginFactory(void) {", "*make(void) {")
        + "static void *choose(void) { return make; }"
        'const plugkeep_plugin *PluginFactory(void) __attribute__((ifunc("choose")));'
    )
    assert load_so(library)().name == "spoilt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int other;", "exports no PluginFactory$"),
        ("int pluginFactory(void) { return 0; }", "did you mean 'pluginFactory'"),
        (
            "static int PluginFactory(void) { return 0; } void *f(void) { return PluginFactory; }",
            "no",
        ),
        ('__attribute__((visibility("hidden"))) int PluginFactory(void) { return 0; }', "no"),
        ("int PluginFactory(void); int f(void) { return PluginFactory(); }", "exports no"),
        ("int _Z13PluginFactoryv(void) { return 0; }", r'C\+\+ has to declare it extern "C"'),
    ],
)
def test_a_missing_symbol_is_found_out_before_any_code_runs(
    build: Build, tmp_path: Path, text: str, words: str
) -> None:
    trace = tmp_path / "ran"
    constructor = (
        "#include <fcntl.h>\n__attribute__((constructor)) static void run(void)"
        f'{{ open("{trace}", O_CREAT, 0600); }}\n'
    )
    library = build(constructor + text)
    with pytest.raises(SymbolNotFoundError, match=words):
        load_so(library)
    assert not trace.exists()
