"""Series: several messages alike, written as one.

The ids are consecutive, from that of the message on; its `params`, or its `result`, is an array
that holds those of each.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, Final

from msgspec import UNSET

from plugkeep.errors import ProtocolViolationError
from plugkeep.wire.messages import Id, Message, PlainAnswer, PlainRequest, shortened

#: The flag of a frame whose message is a series.
SERIES: Final = 1
#: So many messages may be in one series.
MAX_SERIES: Final = 65_536
#: No id may be as large as this.
_BEYOND: Final = 2**64
_LISTS: Final = frozenset({list})


def spelt_out(message: Message) -> list[Message]:
    """Return the messages that `message` stands for. Raises ProtocolViolationError: it is none."""
    first, method, limit = message.id, message.method, message.deadline_ms
    if method is UNSET:
        items, whole = message.result, Message(first, result=message.result)
    else:
        items, whole = message.params, Message(first, method, message.params, deadline_ms=limit)
    if type(first) is not int or type(items) is not list or message != whole:
        raise ProtocolViolationError(
            "a series is a request or a response, with an integer for its id and an array for its "
            f"params or result, and no other members; it is {shortened(message)}"
        )
    if not 0 < len(items) <= MAX_SERIES:
        raise ProtocolViolationError(
            f"a series holds {len(items)} messages; 1 to {MAX_SERIES} may be"
        )
    if first + len(items) > _BEYOND:
        raise ProtocolViolationError(f"a series of {len(items)} messages begins with id {first}")
    if method is UNSET:
        return [Message(number, result=item) for number, item in enumerate(items, first)]
    return [
        Message(number, method, item, deadline_ms=limit) for number, item in enumerate(items, first)
    ]


def plain_ones(series: PlainRequest | PlainAnswer) -> list[PlainRequest] | list[PlainAnswer]:
    """Return the plain messages that `series` stands for; none where it is something else."""
    if isinstance(series, PlainAnswer):
        several = ids_and_results(series)
        return list(map(PlainAnswer, *several)) if several else []
    first, params = series.id, series.params
    if not _is_within(first, len(params)) or not _LISTS.issuperset(map(type, params)):
        return []
    ids = range(first, first + len(params))
    return list(map(PlainRequest, ids, repeat(series.method), params, repeat(series.deadline_ms)))


def ids_and_results(series: PlainAnswer) -> tuple[list[Id], list[Any]] | None:
    """Return the ids and results of the answers that `series` stands for; None: it is none."""
    first, results = series.id, series.result
    if type(results) is not list or not _is_within(first, len(results)):
        return None
    return list(range(first, first + len(results))), results  # type: ignore[operator, arg-type]


def _is_within(first: Id, count: int) -> bool:
    return type(first) is int and 0 < count <= MAX_SERIES and first + count <= _BEYOND
