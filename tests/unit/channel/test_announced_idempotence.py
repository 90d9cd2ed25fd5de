"""That a method may be called twice is announced, and read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugkeep import expose
from plugkeep.channel.announcement import Refused, read_printed
from plugkeep.channel.exposed import methods_of


class Shop:
    @expose(idempotent=True)
    def price(self) -> int:
        return 1

    @expose
    def sell(self) -> None: ...


def announced(methods: Any) -> Any:
    said = {"ready": True, "wire": 1, "name": "shop", "methods": methods}
    return read_printed(json.dumps(said).encode(), 1).methods


def test_what_is_marked_is_announced_and_nothing_else():
    said = {name: method.announcement() for name, method in methods_of(Shop()).items()}
    assert said["price"]["idempotent"] is True
    assert "idempotent" not in said["sell"]
    methods = announced(list(said.values()))
    assert (methods["price"].idempotent, methods["sell"].idempotent) == (True, False)


def test_what_is_no_boolean_is_refused():
    with pytest.raises(Refused, match="has idempotent 'yes' of method 'price', which is no bool"):
        announced([{"name": "price", "idempotent": "yes"}])
