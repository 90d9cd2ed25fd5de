"""A plugin's own configuration: from the table in the file to the type that the plugin asks for.

A plugin asks by annotating its attribute `config`: with a dataclass, a msgspec Struct, a
TypedDict, or anything else that msgspec converts to. A `Path` in it is taken relative to the file.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, get_type_hints

from plugkeep.errors import did_you_mean
from plugkeep.wire.conversion import explained

if TYPE_CHECKING:
    from plugkeep.config.model import Key
    from plugkeep.spec import PluginSpec

#: What does not fit: the key inside the plugin's table, and a sentence.
Misfit = tuple["Key", str]


def set_config(plugin: object, spec: PluginSpec) -> list[Misfit]:
    """Set `plugin.config` to what `spec` says, as its annotation has it; return what did not fit.

    A plugin that has a `config` already keeps it where the file gives none.
    """
    try:
        if not spec.config and hasattr(plugin, "config"):
            return []
        annotation = _annotation(type(plugin))
        if annotation is None and not hasattr(plugin, "config"):
            hint = "; it would need an attribute or annotation 'config'"
            return [((), f"the plugin takes no configuration{hint}")] if spec.config else []
        wanted = dict if annotation in (None, object) else annotation
        value, misfits = _convert(dict(spec.config), wanted, spec.base)
        if not misfits:
            plugin.config = value  # type: ignore[attr-defined]
    except Exception as error:  # the plugin's own code runs here: properties, annotations, hooks
        return [((), f"the plugin's config cannot be set: {type(error).__name__}: {error}")]
    return misfits


def _annotation(kind: type) -> Any:
    """Return the type that `kind` or a base declares for `config`, or None.

    Only that one annotation is evaluated: the others may name what was imported for checkers.
    """
    for owner in kind.__mro__:
        declared = inspect.get_annotations(owner).get("config")
        if declared is None:
            continue
        module = sys.modules.get(owner.__module__)
        names = (
            vars(module) if module else getattr(getattr(owner, "start", None), "__globals__", {})
        )
        holder = types.SimpleNamespace(__annotations__={"config": declared})
        hints = get_type_hints(holder, names, dict(vars(owner)), include_extras=True)
        return hints["config"]
    return None


def _convert(table: dict[str, Any], kind: Any, base: str | None) -> tuple[Any, list[Misfit]]:
    import msgspec
    from msgspec.inspect import type_info

    def convert(value: dict[str, Any]) -> Any:
        return msgspec.convert(
            value, kind, dec_hook=lambda wanted, raw: _special(wanted, raw, base)
        )

    misfits = list(_keys(table, type_info(kind), ()))
    for name in table:
        # One by one, for msgspec stops at the first thing that does not fit. Which keys there
        # are to be is clear already, and what it says of the table as a whole counts only when
        # all of it is there.
        try:
            convert({name: table[name]})
        except msgspec.ValidationError as error:
            misfit = _explain(error)
            misfits += [misfit] if misfit[0] and not misfit[1].startswith("Object ") else []
    if misfits:
        return None, misfits
    try:
        return convert(table), []
    except msgspec.ValidationError as error:
        return None, [_explain(error)]


def _keys(value: Any, shape: Any, at: Key) -> Iterator[Misfit]:
    """Yield the keys, at any depth, that nobody reads or that are missing."""
    if isinstance(value, list):
        inner = getattr(shape, "item_type", None)
        for item in value:
            yield from _keys(item, inner, at)
    elif isinstance(value, dict) and hasattr(shape, "fields"):
        fields = {field.encode_name: field for field in shape.fields}
        yield from _keys_of_table(value, fields, getattr(shape, "tag_field", None), at)
        for name, item in value.items():
            if name in fields:
                yield from _keys(item, fields[name].type, (*at, name))
    elif isinstance(value, dict) and hasattr(shape, "value_type"):
        for name, item in value.items():
            yield from _keys(item, shape.value_type, (*at, name))


def _keys_of_table(
    table: dict[str, Any], fields: dict[str, Any], tag: str | None, at: Key
) -> Iterator[Misfit]:
    for name in table:
        if name not in fields and name != tag:
            hint = did_you_mean(name, fields) or f"; there are: {', '.join(fields) or 'none'}"
            yield (*at, name), f"unknown key{hint}"
    for name, field in fields.items():
        if field.required and name not in table:
            yield at, f"has no key {name!r}, which is required"


def _explain(error: Exception) -> Misfit:
    """Turn what msgspec says of a value into its key and a sentence of ours."""
    text, path = explained(error)
    place = f" (at ${path})" if "[" in path else ""
    return tuple(re.findall(r"\.([^.\[\]]+)", path)), f"{text}{place}"


def _special(wanted: Any, raw: object, base: str | None) -> object:
    """Make what msgspec does not know of."""
    if isinstance(wanted, type) and issubclass(wanted, PurePath):
        if not isinstance(raw, str):
            raise TypeError("Expected `str`, a path")
        return wanted(Path(base or "", raw))
    raise TypeError(f"a {getattr(wanted, '__name__', wanted)} cannot be made from a file's values")
