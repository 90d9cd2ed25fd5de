"""The header mirrored in Rust and in Go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plugkeep.loaders import get_include

#: Each in a process of its own: a language's run time stays in the process that has loaded it.
DRIVE = """
import gc, json, sys
from plugkeep import load_so
from plugkeep.errors import MethodNotFoundError, NativeCallError, NativeError

factory = load_so(sys.argv[1])
said = []
plugin, other = factory(), factory()
plugin.start()
try:
    plugin.call("absent")
except MethodNotFoundError as error:
    said.append(str(error))
try:
    plugin.call("add", "x")
except NativeCallError as error:
    said.append(str(error))
for number in range(100):
    total = plugin.call("add", number)
other.start()
said += [plugin.name, total, other.call("add", 1), other.call("live")]
plugin.stop()
plugin.close()
said.append(other.call("live"))
other.stop()
print(json.dumps(said))
"""

EXPECTED = [
    "plugin 'counter' has no method 'absent'",
    "method 'add' of plugin 'counter' failed (1): not a number: [\"x\"]",
    "counter",
    4950,
    1,
    2,
    1,
]


def drive(library: Path) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", DRIVE, library],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said: list[object] = json.loads(done.stdout)
    return said


RUST = r"""
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::sync::atomic::{AtomicI64, Ordering};

#[repr(C)]
pub struct Response {
    data: *const c_char,
    size: usize,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
}

#[repr(C)]
pub struct Plugin {
    magic: u32,
    abi_version: u32,
    size: usize,
    name: *const c_char,
    start: unsafe extern "C" fn(*const Plugin) -> c_int,
    stop: unsafe extern "C" fn(*const Plugin) -> c_int,
    call: Option<unsafe extern "C" fn(
        *const Plugin, *const c_char, *const c_char, usize, *mut Response) -> c_int>,
    last_error: Option<unsafe extern "C" fn(*const Plugin) -> *const c_char>,
    destroy: Option<unsafe extern "C" fn(*const Plugin)>,
    state: *mut c_void,
}

#[derive(Default)]
struct Counter {
    total: i64,
    error: CString,
}

static LIVE: AtomicI64 = AtomicI64::new(0);

unsafe fn counter<'a>(plugin: *const Plugin) -> &'a mut Counter {
    unsafe { &mut *((*plugin).state as *mut Counter) }
}

unsafe extern "C" fn start(plugin: *const Plugin) -> c_int {
    unsafe { counter(plugin).total = 0 };
    0
}

unsafe extern "C" fn stop(_: *const Plugin) -> c_int {
    0
}

unsafe extern "C" fn release(data: *mut c_void) {
    drop(unsafe { CString::from_raw(data as *mut c_char) });
}

unsafe extern "C" fn call(
    plugin: *const Plugin, method: *const c_char, request: *const c_char, size: usize,
    response: *mut Response,
) -> c_int {
    let (counter, method) = unsafe { (counter(plugin), CStr::from_ptr(method)) };
    let request = unsafe { std::slice::from_raw_parts(request as *const u8, size) };
    let request = String::from_utf8_lossy(request);
    let answer = match method.to_bytes() {
        b"add" => match request.trim_matches(['[', ']']).parse::<i64>() {
            Ok(number) => { counter.total += number; counter.total }
            Err(_) => {
                counter.error = CString::new(format!("not a number: {request}")).unwrap();
                return 1;
            }
        },
        b"live" => LIVE.load(Ordering::SeqCst),
        _ => return -32601,
    };
    let text = CString::new(answer.to_string()).unwrap();
    unsafe {
        (*response).size = text.as_bytes().len();
        (*response).data = text.into_raw();
        (*response).release = Some(release);
    }
    0
}

unsafe extern "C" fn last_error(plugin: *const Plugin) -> *const c_char {
    unsafe { counter(plugin).error.as_ptr() }
}

unsafe extern "C" fn destroy(plugin: *const Plugin) {
    LIVE.fetch_sub(1, Ordering::SeqCst);
    unsafe {
        drop(Box::from_raw((*plugin).state as *mut Counter));
        drop(Box::from_raw(plugin as *mut Plugin));
    }
}

#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn PluginFactory() -> *const Plugin {
    LIVE.fetch_add(1, Ordering::SeqCst);
    Box::into_raw(Box::new(Plugin {
        magic: 0x504B4550,
        abi_version: 1,
        size: size_of::<Plugin>(),
        name: c"counter".as_ptr(),
        start, stop,
        call: Some(call), last_error: Some(last_error), destroy: Some(destroy),
        state: Box::into_raw(Box::<Counter>::default()) as *mut c_void,
    }))
}
"""


def test_a_plugin_in_rust(
    run: Callable[..., str], tool: Callable[[str], str], tmp_path: Path
) -> None:
    rustc = tool("rustc")
    source = tmp_path / "counter.rs"
    source.write_text(RUST)
    library = tmp_path / "libcounter.so"
    run(rustc, "--edition=2024", "--crate-type=cdylib", "-Dwarnings", "-o", library, source)
    assert drive(library) == EXPECTED


# Go: what the host calls has to be C, for the host passes C pointers and expects C results.
GO = r"""
package main

/*
#define PLUGKEEP_NO_PROTOTYPE // cgo declares PluginFactory itself
#include <plugkeep.h>
#include <stdlib.h>

int counterStart(plugkeep_plugin *);
int counterStop(plugkeep_plugin *);
int counterCall(plugkeep_plugin *, char *, char *, size_t, plugkeep_response *);
char *counterLastError(plugkeep_plugin *);
void counterDestroy(plugkeep_plugin *);

static plugkeep_plugin *make(char *name, uintptr_t state) {
    plugkeep_plugin *plugin = malloc(sizeof *plugin);
    *plugin = (plugkeep_plugin){
        PLUGKEEP_HEAD, name,
        (int (*)(const plugkeep_plugin *))counterStart,
        (int (*)(const plugkeep_plugin *))counterStop,
        (int (*)(const plugkeep_plugin *, const char *, const char *, size_t,
                 plugkeep_response *))counterCall,
        (const char *(*)(const plugkeep_plugin *))counterLastError,
        (void (*)(const plugkeep_plugin *))counterDestroy,
        (void *)state,
    };
    return plugin;
}
static uintptr_t state_of(plugkeep_plugin *self) { return (uintptr_t)self->state; }
*/
import "C"

import (
	"runtime/cgo"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"
)

type counter struct {
	total int64
	err   *C.char
}

var live atomic.Int64

func of(self *C.plugkeep_plugin) *counter {
	return cgo.Handle(C.state_of(self)).Value().(*counter)
}

func (c *counter) fail(text string) C.int {
	C.free(unsafe.Pointer(c.err))
	c.err = C.CString(text)
	return 1
}

//export counterStart
func counterStart(self *C.plugkeep_plugin) C.int { of(self).total = 0; return 0 }

//export counterStop
func counterStop(self *C.plugkeep_plugin) C.int { return 0 }

//export counterCall
func counterCall(self *C.plugkeep_plugin, method, request *C.char, size C.size_t,
	response *C.plugkeep_response) C.int {
	c, arguments := of(self), C.GoStringN(request, C.int(size))
	var answer int64
	switch C.GoString(method) {
	case "add":
		number, err := strconv.ParseInt(strings.Trim(arguments, "[]"), 10, 64)
		if err != nil {
			return c.fail("not a number: " + arguments)
		}
		c.total += number
		answer = c.total
	case "live":
		answer = live.Load()
	default:
		return C.PLUGKEEP_NO_SUCH_METHOD
	}
	text := strconv.FormatInt(answer, 10)
	response.data = C.CString(text)
	response.size = C.size_t(len(text))
	response.release = (*[0]byte)(C.free)
	return C.PLUGKEEP_OK
}

//export counterLastError
func counterLastError(self *C.plugkeep_plugin) *C.char { return of(self).err }

//export counterDestroy
func counterDestroy(self *C.plugkeep_plugin) {
	live.Add(-1)
	C.free(unsafe.Pointer(of(self).err))
	cgo.Handle(C.state_of(self)).Delete()
	C.free(unsafe.Pointer(self.name))
	C.free(unsafe.Pointer(self))
}

//export PluginFactory
func PluginFactory() *C.plugkeep_plugin {
	live.Add(1)
	return C.make(C.CString("counter"), C.uintptr_t(cgo.NewHandle(&counter{})))
}

func main() {}
"""


@pytest.mark.timeout(300)  # the first build compiles Go's own library
def test_a_plugin_in_go(
    run: Callable[..., str],
    tool: Callable[[str], str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    go = tool("go")
    tool("cc")
    source = tmp_path / "counter.go"
    source.write_text(GO)
    library = tmp_path / "libcounter.so"
    own = {
        "GOCACHE": str(tmp_path_factory.getbasetemp().parent / "go-cache"),  # for the next time
        "GOPATH": str(tmp_path / "path"),
        "GOPROXY": "off",
        "GO111MODULE": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": f"-I{get_include()}",
    }
    command = (go, "build", "-buildmode=c-shared", "-o", library, source)
    run(*command, env={**os.environ, **own}, cwd=tmp_path)
    assert drive(library) == EXPECTED
