"""CPython extension modules, built with the machine's compiler."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugkeep.errors import (
    ImportFailedError,
    NotALibraryError,
    SymbolNotFoundError,
    WrongTypeError,
)
from plugkeep.loaders import load, load_so

HEADERS = Path(sysconfig.get_path("include"))
pytestmark = pytest.mark.skipif(
    not (HEADERS / "Python.h").exists(), reason=f"there is no Python.h in {HEADERS}"
)

#: Adds to the new module what the macro ADD does; its class Clock counts its starts.
MODULE = """
#include <Python.h>

static PyObject *make_clock(PyObject *module) {
    PyObject *clock = PyObject_GetAttrString(module, "Clock"), *made = NULL;
    if (clock) {
        made = PyObject_CallNoArgs(clock);
        Py_DECREF(clock);
    }
    return made;
}

static const char clock_class[] =
    "class Clock:\\n"
    "    name = 'clock'\\n"
    "    starts = 0\\n"
    "    def start(self): self.starts += 1\\n"
    "    def stop(self): pass\\n";

/* Of the same name as the symbol of plain libraries, and of another type. */
PyObject *PluginFactory(PyObject *module, PyObject *nothing) {
    (void)nothing;
    return make_clock(module);
}

static PyMethodDef methods[] = {
#ifdef METHOD
    {METHOD, PluginFactory, METH_NOARGS, "Make a clock."},
#endif
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module) {
    PyObject *names = PyModule_GetDict(module);
    PyObject *done;
    PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins());
    done = PyRun_String(clock_class, Py_file_input, names, names);
    Py_XDECREF(done);
    if (!done)
        return -1;
#ifdef AFTER
    done = PyRun_String(AFTER, Py_file_input, names, names);
    Py_XDECREF(done);
    if (!done)
        return -1;
#endif
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "clock", .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit_clock(void) { return PyModuleDef_Init(&definition); }
"""


@pytest.fixture
def build_module(build: Callable[..., Path]) -> Callable[..., Path]:
    def build_it(*flags: str, name: str = "clock.so", text: str = MODULE) -> Path:
        return build(text, f"-I{HEADERS}", *flags, name=name)

    return build_it


@pytest.fixture(autouse=True)
def same_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("plugkeep_"):
            del sys.modules[name]


SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


@pytest.mark.parametrize("name", ["clock.so", f"clock{SUFFIX}", "renamed.so"])
def test_an_attribute_that_can_be_called_is_the_factory(
    build_module: Callable[..., Path], name: str
) -> None:
    library = build_module('-DMETHOD="PluginFactory"', name=name)
    for factory in (load_so(library), load(library), load(f"so:{library}")):
        plugin: Any = factory()
        plugin.start()
        assert (plugin.name, plugin.starts) == ("clock", 1)
    assert "clock" not in sys.modules


def test_a_class_in_it_is_a_factory_too(build_module: Callable[..., Path]) -> None:
    library = build_module('-DAFTER="PluginFactory = Clock"')
    assert load_so(library)().name == "clock"


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        ((), SymbolNotFoundError, r"extension module '.*/clock.so' has no PluginFactory"),
        (
            ('-DAFTER="PluginFactory = 3"',),
            WrongTypeError,
            "^PluginFactory has wrong type: found int",
        ),
        (('-DAFTER="1 / 0"',), ImportFailedError, "raised ZeroDivisionError"),
        (
            ("-DPyInit_clock=f", "-DPluginFactory=g"),
            SymbolNotFoundError,
            "exports no PluginFactory",
        ),
    ],
)
def test_modules_that_do_not_load(
    build_module: Callable[..., Path], flags: tuple[str, ...], error: type[Exception], words: str
) -> None:
    library = build_module(*flags)
    before = set(sys.modules)
    with pytest.raises(error, match=words):
        load_so(library)
    left = set(sys.modules) - before
    assert not [name for name in left if not name.startswith("plugkeep.loaders.")]


def test_a_module_that_lacks_a_symbol_of_the_interpreter(build_module: Callable[..., Path]) -> None:
    text = (
        MODULE + "\nvoid Py_of_another_version(void); void use(void) { Py_of_another_version(); }"
    )
    library = build_module('-DMETHOD="PluginFactory"', text=text)
    with pytest.raises(NotALibraryError, match="undefined symbol: Py_of_another_version"):
        load_so(library)


def test_two_modules_of_one_name_do_not_meet(build_module: Callable[..., Path]) -> None:
    one = load_so(build_module('-DAFTER="PluginFactory = Clock; Clock.folder = 1"'))
    two = load_so(build_module('-DAFTER="PluginFactory = Clock; Clock.folder = 2"'))
    plugins: list[Any] = [one(), two()]
    assert [plugin.folder for plugin in plugins] == [1, 2]
