"""Without the extra: importing works, and using says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

import plugkeep.web
from plugkeep.errors import MissingExtraError
from plugkeep.routing import RouteTable


@pytest.mark.parametrize(
    ("use", "package"), [("asgi", "starlette"), ("wsgi", "starlette"), ("wsgi", "a2wsgi")]
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, use: str, package: str
) -> None:
    for module in ("plugkeep.web._asgi", "plugkeep.web._wsgi"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for module in [*sys.modules]:
        if module.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        getattr(plugkeep.web, use)(RouteTable())
    assert package in caught.value.source
    assert "pip install 'plugkeep[web]'" in str(caught.value)
    assert isinstance(caught.value, ImportError)


def test_routes_are_declared_without_importing_a_web_framework() -> None:
    program = """
import sys, plugkeep.web
from plugkeep import Route, RouteTable, register_route_providers
RouteTable().add(Route("GET", "/a/{x:int}", print), plugin="a")
slow = {"starlette", "a2wsgi", "anyio", "asyncio", "logging", "json", "uuid", "inspect"}
print(sorted(slow & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "['inspect']"), done.stderr
