"""What somebody searches for: as SQLite's FTS5 is asked for it, and as it is marked in a text.

FTS5 can cut out and mark by itself, but takes time that grows with the square of what it marks.
"""

from __future__ import annotations

import re
import unicodedata

#: Words and characters of a query that are heeded.
WORDS, LENGTH = 16, 200
#: Characters of an excerpt, and those of them that lead to what was found.
WIDTH, LEAD = 240, 60
#: What FTS5's tokenizer takes for a word.
LETTER = r"[^\W_]"

_word = re.compile(f"{LETTER}+")
_beginning = re.compile(rf"(?:[\W_]*{LETTER}+){{0,{WORDS}}}[\W_]*")


class Sought:
    """Every word and every "quoted phrase" of a query, the last one begun.

    A query as it is while somebody types is seldom correct syntax, so nothing in it is any.
    """

    def __init__(self, query: str) -> None:
        heeded = _beginning.match(query[:LENGTH].replace("\0", " "))
        text = heeded[0] if heeded else ""
        found = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|([^\s"]+)', text)]
        phrases = [each for each in found if _word.search(each)]
        begun = bool(phrases) and not text.endswith(('"', " "))
        #: What FTS5 is asked for; empty if there is no word in the query.
        self.expression = " ".join(f'"{each}"' for each in phrases) + "*" * begun
        ends = [rf"(?!{LETTER})"] * len(phrases)
        if begun:
            ends[-1] = f"{LETTER}*+"
        self._patterns = [
            re.compile(_pattern(each) + end) for each, end in zip(phrases, ends, strict=True)
        ]

    def excerpt(self, text: str) -> list[str]:
        """Return a piece of `text`, cut up so that what was found is at the odd places."""
        text = unicodedata.normalize("NFC", text)
        plain = _plain(text)
        start, end = self._window(plain)
        shown, at = [""], start
        for first, last in self._marks(plain, start, end):
            shown[-1] += text[at:first]
            shown += [text[first:last], ""]
            at = last
        shown[0] = ("… " if start else "") + shown[0]
        shown[-1] += text[at:end] + (" …" if end < len(text) else "")
        return shown

    def _window(self, plain: str) -> tuple[int, int]:
        """Return where to cut: around the place where most of what is sought first appears."""
        firsts = sorted(each.start() for p in self._patterns if (each := p.search(plain)))
        best = max(firsts, key=lambda at: sum(0 <= each - at < WIDTH for each in firsts), default=0)
        start = max(0, best - LEAD)
        if start:  # not in the middle of a word
            start = plain.find(" ", start, best) + 1 or start
        end = start + WIDTH
        return start, max(end - LEAD, plain.rfind(" ", start, end)) if end < len(plain) else end

    def _marks(self, plain: str, start: int, end: int) -> list[tuple[int, int]]:
        """Return the places to be marked, in order; no two overlap."""
        found = [each.span() for p in self._patterns for each in p.finditer(plain, start, end)]
        marks: list[tuple[int, int]] = []
        for first, last in sorted(found, key=lambda span: (span[0], -span[1])):
            if not marks or first >= marks[-1][1]:
                marks.append((first, last))
        return marks


def _pattern(phrase: str) -> str:
    words: list[str] = _word.findall(_plain(unicodedata.normalize("NFC", phrase)))
    # A pattern that begins with plain letters is looked for fastest.
    first, *rest = words
    followed = (rf"[\W_]++{each}" for each in rest)
    return f"{first}(?<!{LETTER}{first}){''.join(followed)}"


def _plain(text: str) -> str:
    """Return `text` in small letters without accents, each character where it was."""
    if text.isascii():
        return text.lower()
    return text.translate({ord(each): _small(each) for each in set(text)})


def _small(character: str) -> str:
    apart = unicodedata.normalize("NFD", character)
    return (apart[0] if all(map(unicodedata.combining, apart[1:])) else character).lower()
