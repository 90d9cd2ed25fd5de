"""``python:`` and ``entry-point:``: modules that can be imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plugkeep.errors import (
    FactoryFailedError,
    ImportFailedError,
    InvalidSourceError,
    NoPluginError,
    SourceNotFoundError,
    SymbolNotFoundError,
    WrongTypeError,
)
from plugkeep.loaders import load

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the test's folder on the import path, and forget what was imported from there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if str(tmp_path) in f"{getattr(module, '__file__', '')} {getattr(module, '__path__', '')}":
            del sys.modules[name]


@pytest.fixture
def shop(write: Write) -> Path:
    write("shop/__init__.py", "")
    return write(
        "shop/plugins.py",
        """\
        {PLUGIN}
        PluginFactory = Clock          # a class
        def make(): return Clock()     # a function
        variable = lambda: Clock()
        class Makers:
            @staticmethod
            def clock(): return Clock()
            @classmethod
            def fast(cls): return Clock()
            def bound(self): return Clock()
        makers = Makers()
        class Callable:
            def __call__(self): return Clock()
        instance = Callable()
        text = "Clock"
        plugin = Clock()
        def needs(config, path): return Clock()
        def may(config=None, *rest, **more): return Clock()
        class Needing(Clock):
            def __init__(self, url): ...
        async def later(): return Clock()
        def raises(): raise ConnectionError("nobody answers")
        def none(): return None
        """,
    )


@pytest.mark.parametrize(
    "attribute",
    ["make", "variable", "Makers.clock", "Makers.fast", "makers.bound", "instance", "may"],
)
def test_whatever_can_be_called_without_arguments_is_a_factory(shop: Path, attribute: str) -> None:
    factory = load(f"python:shop.plugins:{attribute}")
    first, second = factory(), factory()
    assert first.name == "clock"
    assert first is not second


def test_the_symbol_need_not_be_named(shop: Path) -> None:
    assert load("python:shop.plugins")().name == "clock"


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("text", r"text has wrong type: found str 'Clock' as text in module shop.plugins"),
        ("plugin", "which is a plugin already; it must be what makes one"),
        ("needs", r"cannot be called without arguments: missing a required argument: 'config'"),
        ("Needing", "missing a required argument: 'url'"),
        ("later", "which is async"),
        ("makers", "has wrong type: found Makers"),
    ],
)
def test_what_cannot_be_is_of_wrong_type(shop: Path, attribute: str, words: str) -> None:
    with pytest.raises(WrongTypeError, match=words) as caught:
        load(f"python:shop.plugins:{attribute}")
    assert isinstance(caught.value, TypeError)


def test_the_default_symbol_of_wrong_type_is_named_as_promised(write: Write) -> None:
    write("ready.py", "{PLUGIN}\nPluginFactory = Clock()\n")
    with pytest.raises(WrongTypeError, match=r"^PluginFactory has wrong type: found Clock"):
        load("python:ready")


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("mak", r"module shop.plugins has no mak; did you mean 'make'"),
        ("Makers.clok", r"Makers in module shop.plugins has no clok; did you mean 'clock'"),
    ],
)
def test_a_missing_symbol_tells_the_near_ones(shop: Path, attribute: str, words: str) -> None:
    with pytest.raises(SymbolNotFoundError, match=words) as caught:
        load(f"python:shop.plugins:{attribute}")
    assert isinstance(caught.value, AttributeError)


def test_a_module_without_the_symbol(write: Write) -> None:
    write("almost.py", "def plugin_factory(): ...")
    with pytest.raises(
        SymbolNotFoundError, match=r"module almost has no PluginFactory; .* 'plugin_factory'"
    ):
        load("python:almost")


@pytest.mark.parametrize(
    "rest", [".shop", "shop..x", "shop plugins", "shop/plugins", "shop:", "s:a-b"]
)
def test_names_that_python_does_not_have(rest: str) -> None:
    with pytest.raises(InvalidSourceError, match="is no name in Python"):
        load(f"python:{rest}")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("shop.plugin", r"there is no module shop.plugin: .*; did you mean 'plugins'"),
        ("shpo.plugins", r"there is no module shpo.plugins: No module named 'shpo'; .*'shop'"),
        ("shop.plugins.clock", "'shop.plugins' is not a package"),
    ],
)
def test_a_missing_module_tells_the_near_ones(shop: Path, module: str, words: str) -> None:
    with pytest.raises(SourceNotFoundError, match=words) as caught:
        load(f"python:{module}")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import nowhere_to_be_found", ModuleNotFoundError),
        ("import shop.nowhere", ModuleNotFoundError),
        ("from json import nothing", ImportError),
        ("1 / 0", ZeroDivisionError),
        ("def broken(:", SyntaxError),
        ("import sys; sys.exit(3)", SystemExit),
    ],
)
def test_a_module_that_fails_is_not_a_missing_one(
    write: Write, text: str, cause: type[BaseException]
) -> None:
    write("shop/broken.py", text)
    with pytest.raises(ImportFailedError, match=f"module shop.broken raised {cause.__name__}") as e:
        load("python:shop.broken")
    assert isinstance(e.value, ImportError)
    assert type(e.value.__cause__) is cause
    assert "shop.broken" not in sys.modules


def test_a_package_that_fails_while_a_module_of_it_is_wanted(write: Write) -> None:
    write("market/__init__.py", "import market_helpers")
    write("market/plugins.py", "")
    with pytest.raises(ImportFailedError, match="No module named 'market_helpers'"):
        load("python:market.plugins")


def test_ctrl_c_while_importing_is_not_swallowed(write: Write) -> None:
    write("slow.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("python:slow")


def test_a_module_whose_attributes_are_made_on_demand(write: Write) -> None:
    write(
        "lazy.py",
        """\
        {PLUGIN}
        def __getattr__(name):
            if name == "PluginFactory":
                return Clock
            if name == "broken":
                raise OSError("disk on fire")
            raise AttributeError(name)
        """,
    )
    assert load("python:lazy")().name == "clock"
    with pytest.raises(
        ImportFailedError, match="reading broken of module lazy raised OSError: disk"
    ):
        load("python:lazy:broken")
    with pytest.raises(SymbolNotFoundError):
        load("python:lazy:absent")


def test_factories_that_fail_when_they_are_called(shop: Path) -> None:
    raising, empty = load("python:shop.plugins:raises"), load("python:shop.plugins:none")
    with pytest.raises(
        FactoryFailedError, match=r"python:shop\.plugins:raises raised ConnectionError: nobody"
    ) as caught:
        raising()
    assert isinstance(caught.value.__cause__, ConnectionError)
    with pytest.raises(NoPluginError, match="returned None, which is no plugin: it has no name"):
        empty()


# --- entry-point: -----------------------------------------------------------------------------


@pytest.fixture
def distribution(shop: Path, write: Write) -> None:
    write("shop-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: shop\nVersion: 1.2\n")
    write(
        "shop-1.2.dist-info/entry_points.txt",
        """\
        [shop.plugins]
        clock = shop.plugins
        made = shop.plugins : make [fast]
        group/clock = shop.plugins:make
        typo = shop.plugins:mak
        gone = shop.gone:PluginFactory
        odd = shop plugins
        """,
    )


@pytest.mark.usefixtures("distribution")
@pytest.mark.parametrize("name", ["clock", "made", "group/clock"])
def test_an_entry_point_leads_to_a_factory(name: str) -> None:
    assert load(f"entry-point:shop.plugins/{name}")().name == "clock"


@pytest.mark.usefixtures("distribution")
@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("shop.plugins/clok", r"no .* entry point 'clok' in group 'shop.plugins'; .* 'clock'"),
        ("shop.plugin/clock", r"no .* group 'shop.plugin'; did you mean 'shop.plugins'"),
        ("shop.plugins/gone", r"no module shop.gone of entry point .*/gone of shop 1.2: No module"),
    ],
)
def test_an_entry_point_that_is_missing_or_leads_nowhere(rest: str, words: str) -> None:
    with pytest.raises(SourceNotFoundError, match=words):
        load(f"entry-point:{rest}")


@pytest.mark.usefixtures("distribution")
def test_entry_points_that_are_wrong() -> None:
    with pytest.raises(SymbolNotFoundError, match=r"entry point .* of shop 1.2 has no mak"):
        load("entry-point:shop.plugins/typo")
    with pytest.raises(InvalidSourceError, match=r"'shop plugins'.*is no name in Python"):
        load("entry-point:shop.plugins/odd")
    for rest in ("shop.plugins", "shop.plugins/", "/clock"):
        with pytest.raises(InvalidSourceError, match="written entry-point:GROUP/NAME"):
            load(f"entry-point:{rest}")
