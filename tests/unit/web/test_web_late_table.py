"""A host may be asked for its routes when its plugins run already."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugkeep import Host, isolate
from plugkeep.channel import workers

PLUGIN = """
from plugkeep import Route

async def application(scope, receive, send): ...

class PluginFactory:
    name = "shop"
    application = staticmethod(application)
    def start(self): ...
    def stop(self): ...
    def routes(self): return [Route("GET", "/shop/open", lambda request: "yes")]
"""


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have idle threads end at once, so that no test has to wait for that."""
    monkeypatch.setattr(workers._shared, "_idle_for", 0.02)


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_what_a_sandbox_offers_is_in_the_table(is_late: bool, tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text(PLUGIN)
    host = Host()
    host.registry.register(isolate(source, name="shop"))
    if not is_late:
        assert not host.routes.mounts()
    with host:
        assert [mount.path for mount in host.routes.mounts()] == ["/shop"]
        assert [entry.route.path for entry in host.routes.routes()] == ["/shop/open"]
