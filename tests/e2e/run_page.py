"""Run the snippets of one Markdown page, as a reader would who follows it from the top.

    python tests/e2e/run_page.py docs/guide.md

All of a page happens in one empty folder. Its ``python`` fences share one namespace, its ``sh``
fences are run by ``sh -e``, in the order of the page. A fence whose first line is a comment
``file: PATH`` is written there instead, without that line, and executable if it then begins
with ``#!``. Data (``json``, ``jsonl``, ``toml``) must parse; ``text``, ``console`` and the code
of other languages is there to be read.

Words after the language:

    requires=rustc          skip the fence, saying so, where one of these programs is missing
    no-run=serves-for-ever  only check that it parses, for the reason given

Exits with 0, or with 1 after telling page, line and what went wrong.
"""

from __future__ import annotations

import ast
import contextlib
import json
import linecache
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Seconds for one sh fence; long enough for a compiler on a busy machine.
SH_TIMEOUT = 90.0
#: Languages that are there to be read, and may be written to files.
PROSE = frozenset(
    {"asm", "c", "console", "css", "diff", "dot", "go", "html", "http", "ini", "java", "javascript"}
    | {"make", "markdown", "mermaid", "rust", "sql", "svg", "text", "typescript", "xml", "yaml"}
)

_FENCE = re.compile(r"(?P<indent>\s*)(?P<marks>`{3,}|~{3,})\s*(?P<info>[^`]*)$")
_FILE = re.compile(r"\s*(?:#|//|/\*|<!--|--|;)\s*file:\s*(?P<path>\S.*?)\s*(?:\*/|-->)?\s*$")


class PageError(Exception):
    """Raised when a page is wrong at a line: something did not parse, or its program failed."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Fence:
    """One fenced block; `line` is where its first line of code is on the page, from 1."""

    language: str
    words: dict[str, str]
    code: str
    line: int
    #: Where the code is to be written; None: it is to be run.
    file: str | None

    @property
    def on_its_lines(self) -> str:
        """The code, moved down so that its line numbers are the page's."""
        return "\n" * (self.line - 1) + self.code


# --- Reading ----------------------------------------------------------------------------------


def fences(text: str) -> Iterator[Fence]:
    lines = enumerate(text.splitlines(), start=1)
    for number, line in lines:
        opening = _FENCE.fullmatch(line)
        if opening is None:
            continue
        body = []
        for _, inside in lines:
            closing = _FENCE.fullmatch(inside)
            if closing and not closing["info"] and closing["marks"].startswith(opening["marks"]):
                break
            body.append(inside.removeprefix(opening["indent"]))
        else:
            raise PageError(number, "this fence has no end")
        yield _fence(opening["info"], body, number + 1)


def _fence(info: str, body: list[str], line: int) -> Fence:
    language, *rest = info.split() or ["text"]
    words = dict(word.partition("=")[::2] for word in rest)
    _check_info(language, words, line)
    match = _FILE.fullmatch(body[0]) if body else None
    file = match["path"] if match else None
    if file:
        body, line = body[1:], line + 1
    return Fence(language, words, "".join(f"{each}\n" for each in body), line, file)


def _check_info(language: str, words: dict[str, str], line: int) -> None:
    known = sorted({*PARSERS, *PROSE})
    if language not in known:
        raise PageError(line, f"language {language!r} is none of: {', '.join(known)}")
    for word, value in words.items():
        if word not in ("requires", "no-run"):
            raise PageError(line, f"word {word!r} is none of: requires=PROGRAM, no-run=REASON")
        if not value:
            raise PageError(line, f"{word} needs a value: {word}=...")


# --- Parsing ----------------------------------------------------------------------------------


def parse_python(fence: Fence) -> None:
    try:
        ast.parse(fence.on_its_lines)
    except SyntaxError as error:
        raise PageError(error.lineno or fence.line, f"no Python: {error.msg}") from None


def parse_sh(fence: Fence) -> None:
    result = subprocess.run(
        ["sh", "-n"], input=fence.on_its_lines, text=True, capture_output=True, check=False
    )
    if result.returncode:
        raise PageError(fence.line, f"no shell script: {result.stderr.strip()}")


def parse_json(fence: Fence) -> None:
    _parse_data(json.loads, fence.code, fence.line)


def parse_jsonl(fence: Fence) -> None:
    for number, line in enumerate(fence.code.splitlines(), start=fence.line):
        _parse_data(json.loads, line, number)


def parse_toml(fence: Fence) -> None:
    _parse_data(tomllib.loads, fence.code, fence.line)


def _parse_data(parse: Callable[[str], object], code: str, line: int) -> None:
    try:
        parse(code)
    except ValueError as error:
        raise PageError(line, f"does not parse: {error}") from None


PARSERS: dict[str, Callable[[Fence], None]] = {
    "python": parse_python,
    "sh": parse_sh,
    "json": parse_json,
    "jsonl": parse_jsonl,
    "toml": parse_toml,
}


# --- Running ----------------------------------------------------------------------------------


class Page:
    """One page being run, in the current folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        # In the place of ours, for pickles and annotations look there for what a page defines.
        self.module = sys.modules["__main__"] = types.ModuleType("__main__")

    def run(self) -> None:
        for fence in list(fences(self.text)):
            if fence.language in PARSERS:
                PARSERS[fence.language](fence)
            missing = [tool for tool in _tools(fence) if not shutil.which(tool)]
            if missing:
                print(f"SKIPPED {self.path}:{fence.line}: needs {', '.join(missing)}", flush=True)
            elif fence.file:
                self.write(fence)
            elif "no-run" not in fence.words:
                self.execute(fence)

    def write(self, fence: Fence) -> None:
        path = Path(fence.file or "")
        if not path.resolve().is_relative_to(Path.cwd()):
            raise PageError(fence.line, f"file {fence.file!r} is outside the page's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fence.code)
        if fence.code.startswith("#!"):
            path.chmod(0o755)

    def execute(self, fence: Fence) -> None:
        if fence.language == "python":
            code = compile(fence.on_its_lines, str(self.path), "exec", dont_inherit=True)
            exec(code, self.module.__dict__)
        elif fence.language == "sh":
            self.execute_sh(fence)

    def execute_sh(self, fence: Fence) -> None:
        # Into a file, for a pipe would stay open as long as anything in the background lives.
        with tempfile.TemporaryFile("w+") as output, tempfile.NamedTemporaryFile("w") as script:
            script.write(fence.on_its_lines)
            script.flush()
            process = subprocess.Popen(
                ["sh", "-ex", script.name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            problem = _wait(process)
            output.seek(0)
            said = output.read()
        if problem:
            raise PageError(fence.line, f"{problem}; it went so far:\n{said}")


def _tools(fence: Fence) -> list[str]:
    return [tool for tool in fence.words.get("requires", "").split(",") if tool]


def _wait(process: subprocess.Popen[bytes]) -> str:
    """Wait for a script, leaving nothing of it behind; return what went wrong, "" if nothing."""
    try:
        status = process.wait(SH_TIMEOUT)
        return f"sh ended with status {status}" if status else ""
    except subprocess.TimeoutExpired:
        return f"sh was not done within {SH_TIMEOUT:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def report(path: Path, error: BaseException) -> None:
    """Tell what went wrong: of a traceback, only the page's part."""
    if isinstance(error, PageError):
        line = linecache.getline(str(path), error.line).strip()
        print(f"{path}:{error.line}: {error}\n    {line}", file=sys.stderr)
        return
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename != str(path):
        frames = frames.tb_next
    traceback.print_exception(error.with_traceback(frames or error.__traceback__))
    if frames:
        print(f"{path}:{frames.tb_lineno}: {type(error).__name__}: {error}", file=sys.stderr)


def main(argument: str) -> int:
    path = Path(argument).resolve()
    # The page's programs are those of the environment that runs it; its folder is its own.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    sys.path[0] = ""
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        os.chdir(folder)
        try:
            Page(path).run()
        except BaseException as error:  # a page may raise anything, SystemExit too
            report(path, error)
            return 1
        finally:
            os.chdir("/")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
