"""From what has travelled to the type that an annotation asks for: arguments, and results."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from plugkeep.wire.values import BufferForm

Converter = Callable[[Any], Any]

#: msgspec's words for what it found and expected, and ours.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "object": "a table",
    "array": "an array",
    "dict": "a table",
    "list": "an array",
    "NoneType": "null",
    "date": "a date",
    "time": "a time of day",
    "datetime": "a date and time",
    "duration": "a duration",
    "decimal": "a decimal number",
    "uuid": "a UUID",
}
#: Its sentences, and ours.
_SENTENCES = (
    (r"Object missing required field `(.*)`", r"has no member '\1', which is required"),
    (r"Object contains unknown field `(.*)`", r"has a member '\1', which is not known"),
    (r"Invalid enum value (.*)", r"\1 is none of the values that may be"),
    (r"Invalid value (.*)", r"\1 is none of the values that may be"),
    (r"Invalid (?:RFC3339|ISO8601) encoded (.*)", r"expected a \1 as in RFC 3339"),
    (r"Invalid ISO8601 duration", "expected a duration as in ISO 8601"),
    (r"Invalid decimal string", "expected a decimal number"),
    (r"Invalid UUID", "expected a UUID"),
    (r"(.*), got `float`", r"\1, got a number with a fraction"),
    (r"Expected (.*) of length (.*), got (\d+)", r"Expected \1 of length \2, got \3 items"),
)
#: These say nothing of the type.
_ANYTHING = (Any, object, inspect.Parameter.empty)
#: Of these nearly all values are already what they should be.
_EXACT = (str, int, float, bool, bytes, memoryview)


class ConversionError(ValueError):
    """Raised when a value does not fit an annotation; the text says what was found, and where."""


def converter(annotation: Any) -> Converter:
    """Return a function that makes a value that has travelled into one of type `annotation`.

    It raises ConversionError where that does not fit. Types that msgspec knows nothing of, other
    than arrays and paths, are not checked.
    """
    if any(annotation is each for each in _ANYTHING):
        return _as_it_is
    convert = _by_msgspec(annotation)
    is_exact = any(annotation is each for each in _EXACT)
    return _exactly(annotation, convert) if is_exact else convert


def buffer_form(annotation: Any) -> BufferForm:
    """Return how buffers are to be unpacked for `annotation`: as bytes unless it says memoryview.

    For annotations that hold bytes too: `converter` makes bytes of memoryviews where need be.
    """
    if annotation is memoryview or any(
        buffer_form(inner) == "memoryview" for inner in get_args(annotation)
    ):
        return "memoryview"
    return "bytes"


def explained(error: Exception) -> tuple[str, str]:
    """Turn "Expected `int`, got `str` - at `$.a[0].b`" into a sentence of ours, and ``.a[0].b``."""
    text, _, path = str(error).partition(" - at ")
    for theirs, ours in _SENTENCES:
        text = re.sub(f"^{theirs}$", ours, text)
    text = re.sub(r"`([^`]+)`", _translated, text)
    text = text.replace("Expected ", "expected ").replace(", got ", ", found ")
    if path.startswith(_A_KEY):
        text, path = f"{text} as a key", path.removeprefix(_A_KEY)
    return text, path.strip("`").removeprefix("$")


#: What stands before the place of a mapping whose key is wrong.
_A_KEY = "`key` in "


def _translated(kinds: re.Match[str]) -> str:
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds[1].split(" | "))


def _as_it_is(value: Any) -> Any:
    return value


def _exactly(kind: type, convert: Converter) -> Converter:
    def convert_unless_exact(value: Any) -> Any:
        return value if type(value) is kind else convert(value)

    return convert_unless_exact


def _by_msgspec(annotation: Any) -> Converter:
    import msgspec

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(
                value, annotation, builtin_types=_OWN, str_keys=True, dec_hook=_special
            )
        except msgspec.ValidationError as error:
            text, path = explained(error)
            raise ConversionError(f"{text} (at {path})" if path else text) from None
        except TypeError:  # the annotation is beyond msgspec, and so beyond us
            return value

    return convert


#: That these are there as they are, so that a text is not taken for bytes in base64.
_OWN = (bytes, bytearray, memoryview)


def _special(wanted: Any, value: Any) -> Any:
    """Make what msgspec does not know of. Raises TypeError or ValueError, which it passes on."""
    kind = get_origin(wanted) or wanted
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(kind, type):
        if issubclass(kind, numpy.ndarray):
            return _array(numpy, wanted, value)
        if issubclass(kind, numpy.number) and isinstance(value, (int, float)):
            return kind(value)
    if isinstance(kind, type) and issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    try:
        fits = isinstance(value, kind)
    except TypeError:  # such as a protocol that cannot be asked
        fits = True
    if not fits:
        name = getattr(kind, "__qualname__", str(kind))
        raise TypeError(f"Expected `{name}`, got `{type(value).__name__}`")
    return value


def _array(numpy: Any, wanted: Any, value: Any) -> Any:
    """Return `value` as an array of the items that `wanted` names, if it names any.

    Made of lists where it came at level 1 of the wire.
    """
    if not isinstance(value, (numpy.ndarray, list)):
        raise TypeError(f"Expected an array, got `{type(value).__name__}`")
    try:
        found = numpy.asarray(value)
    except ValueError:  # lists of different lengths
        raise TypeError(_NO_ARRAY) from None
    items = _items(numpy, wanted)
    if items is not None and not issubclass(found.dtype.type, items):
        if not isinstance(value, list) and not numpy.can_cast(found.dtype, items):
            raise TypeError(f"Expected an array of {items.__name__}, got one of {found.dtype}")
        found = found.astype(items)
    if found.dtype.hasobject:
        raise TypeError(_NO_ARRAY)
    return found


_NO_ARRAY = "Expected an array, got lists of different lengths, or of other things than numbers"


def _items(numpy: Any, wanted: Any) -> type | None:
    """Return the type of the items that an annotation such as ``NDArray[float64]`` names."""
    dtypes = get_args(wanted)[1:]  # behind the shape
    named = get_args(dtypes[0]) if dtypes else ()
    items = named[0] if named else None
    return items if isinstance(items, type) and issubclass(items, numpy.generic) else None
