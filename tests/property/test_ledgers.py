"""Whatever stands in a ledger: only what it names, and what is still that, is killed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugkeep.keeper.ledger import BLANK, WIDTH, Ledger, Process, headline, judge, line, parse

BOOT, SPACE = b"8b0f", b"pid:[4026531836]"
numbers = st.integers(2, 2**31 - 1)
starts = st.integers(0, 2**63)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
processes = st.builds(Process, numbers, starts, names)
children = st.lists(processes, max_size=8)


def written(keeper: Process, host: Process, children: list[Process], gaps: set[int]) -> bytes:
    lines = [headline(BOOT, SPACE), line(b"host", host), line(b"keeper", keeper)]
    for number, child in enumerate(children):
        lines += [BLANK] * (number in gaps) + [line(b"child", child)]
    return b"".join(lines)


def identity(process: Process) -> tuple[int, int]:
    return process.pid, process.start


ledgers = st.builds(written, processes, processes, children, st.sets(st.integers(0, 8)))


@given(processes, processes, children, st.sets(st.integers(0, 8)))
def test_what_was_written_is_read(
    keeper: Process, host: Process, children: list[Process], gaps: set[int]
) -> None:
    text = written(keeper, host, children, gaps)
    assert all(len(each) == WIDTH for each in text.splitlines(keepends=True))
    ledger = parse(text)
    assert ledger
    assert (ledger.boot, ledger.space) == (BOOT, SPACE)
    assert identity(ledger.keeper) == identity(keeper)
    assert ledger.host
    assert identity(ledger.host) == identity(host)
    assert list(map(identity, ledger.children)) == list(map(identity, children))
    assert all(each.name.isprintable() for each in ledger.children)


@given(
    st.builds(Process, numbers, starts, st.from_regex(r"[A-Za-z0-9][\w.-]{0,60}", fullmatch=True))
)
def test_the_name_of_a_plugin_is_read(process: Process) -> None:
    ledger = parse(written(process, process, [process], set()))
    assert ledger
    if process.name.isascii():
        assert ledger.children == [process]


@given(ledgers, st.integers(0))
def test_what_is_not_all_there_names_nobody_else(text: bytes, size: int) -> None:
    whole, part = parse(text), parse(text[: size % (len(text) + 1)])
    assert whole
    if part:
        assert part.children == whole.children[: len(part.children)]


@given(st.binary() | st.builds(lambda text, more: text + more, ledgers, st.binary()))
def test_garbage_is_read_to_its_end(text: bytes) -> None:
    ledger = parse(text)
    if ledger:
        assert all(each.pid > 1 for each in (ledger.keeper, *ledger.children))


@given(ledgers, st.data())
def test_a_damaged_ledger_is_read_to_its_end(text: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    parse(text[:at] + bytes([data.draw(st.integers(0, 255))]) + text[at + 1 :])


@st.composite
def situations(draw: st.DrawFn) -> tuple[Ledger, bytes, bytes, dict[int, int]]:
    """A ledger, and what there is now: some of it, some others of the same numbers."""
    few, early = st.integers(2, 9), st.integers(0, 3)
    process = st.builds(Process, few, early)
    ledger = Ledger(draw(st.sampled_from([BOOT, b"other"])), SPACE, draw(process))
    ledger.children = draw(st.lists(process, max_size=6))
    space = draw(st.sampled_from([SPACE, b"pid:[1]"]))
    return ledger, BOOT, space, draw(st.dictionaries(few, early))


@given(situations())
def test_only_what_it_names_and_is_still_that_is_killed(
    situation: tuple[Ledger, bytes, bytes, dict[int, int]],
) -> None:
    ledger, boot, space, living = situation
    doomed, may_go = judge(ledger, boot, space, living)
    lives = living.get(ledger.keeper.pid) == ledger.keeper.start
    if ledger.boot != boot:
        assert (doomed, may_go) == ([], True)
    elif ledger.space != space or lives:
        assert (doomed, may_go) == ([], False)
    else:
        assert may_go
        assert doomed == [each for each in ledger.children if identity(each) in living.items()]
