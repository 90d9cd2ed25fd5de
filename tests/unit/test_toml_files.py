"""Whatever stands where a TOML file is expected, reading it ends, soon and with a sentence."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from plugkeep.config import read_config
from plugkeep.errors import ConfigError
from plugkeep.toml_files import UnreadableError, parse, read_text

PATIENCE = 60


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- what is no file --------------------------------------------------------------------------


@pytest.mark.timeout(PATIENCE)
def test_a_pipe_that_nobody_writes_to_is_refused_at_once() -> None:
    os.mkfifo("fifo")
    with pytest.raises(ConfigError) as caught:
        read_config("fifo")
    assert str(caught.value) == "fifo: is a pipe; expected a TOML file"


def test_a_socket_and_a_device_are_refused() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(UnreadableError, match="cannot be read: No such device or address"):
            read_text("socket")
    with pytest.raises(UnreadableError, match="is a device; expected a TOML file"):
        read_text("/dev/zero")


def test_a_link_to_nothing_is_a_missing_file_and_said_to_be_a_link() -> None:
    Path("link").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="link: is a link to nothing"):
        read_config("link")


@pytest.fixture
def pipe():
    """Return a function that makes a pipe from which some text comes later, and gives its path."""
    reader, writer = os.pipe()
    threads = []

    def write(content: bytes) -> None:
        with suppress(BrokenPipeError), os.fdopen(writer, "wb") as stream:
            stream.write(content)

    def pipe(content: bytes) -> str:
        threads.append(threading.Timer(0.05, write, [content]))
        threads[0].start()
        return f"/dev/fd/{reader}"

    yield pipe
    os.close(reader)
    threads[0].join()


def test_a_pipe_given_on_purpose_is_read(pipe) -> None:
    assert parse(read_text(pipe(b"a = 1\r\n"))) == {"a": 1}


def test_a_pipe_without_end_is_not_read_to_its_end(pipe) -> None:
    with pytest.raises(UnreadableError, match="is larger than 1MiB"):
        read_text(pipe(b"#" * 2**22))


def test_stdin_is_read() -> None:
    program = "from plugkeep.toml_files import *; print(parse(read_text('/dev/stdin')))"
    result = subprocess.run(
        [sys.executable, "-c", program], input=b"a = 1", capture_output=True, timeout=PATIENCE
    )
    assert result.stdout == b"{'a': 1}\n", result.stderr


# --- depth ------------------------------------------------------------------------------------

DEEP = {
    "a key": "x = 1\n{deep} = 1",
    "a header": "x = 1\n[{deep}]",
    "an array of tables": "x = 1\n[[{deep}]]",
    "an inline table": "x = 1\ny = {{ {deep} = 1 }}",
    "after a text that ends in quotes": 'x = 1\ny = {{ z = """a"""", {deep} = 1 }}',
    "after a text of quotes": "x = \"\"\ny = {{ z = '''a''''', {deep} = 1 }}",
}


@pytest.mark.parametrize("part", ["a", '"a.b"', "'a'"])
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_a_key_of_many_parts_is_refused_with_its_line(text: str, part: str) -> None:
    with pytest.raises(UnreadableError, match="is nested too deeply") as caught:
        parse(text.format(deep=" . ".join([part] * 33)))
    assert caught.value.line == 2


def test_a_key_without_end_takes_little_memory() -> None:
    Path("deep.toml").write_text("a." * 20_000 + "a = 1")
    program = f"""if True:
        import resource
        from plugkeep.config import examine
        resource.setrlimit(resource.RLIMIT_AS, ({2**28}, {resource.RLIM_INFINITY}))
        print(*examine("deep.toml")[1])
    """
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stdout.startswith("deep.toml:1: is nested too deeply"), result.stderr


@pytest.mark.parametrize(("opening", "closing"), ["[]", ("{a=", "}")])
def test_brackets_without_end_are_refused(opening: str, closing: str) -> None:
    assert parse(f"a = {opening * 32}{'1' if closing == '}' else ''}{closing * 32}")
    with pytest.raises(UnreadableError, match="is nested too deeply"):
        parse(f"a = {opening * 33}")


NOT_DEEP = {
    "as many parts as may be": ".".join("a" * 32) + " = 1",
    "texts": f"a = \"{'a.' * 99}\"\nb = '{'a.' * 99}'",
    "long texts": f"a = \"\"\"\n{'a.' * 99}\"\"\"\nb = '''\n{'a.' * 99}'''",
    "long texts with quotes in them": 'a = """\\""" ' + "a." * 99 + '"""',
    "a comment": "# " + "a." * 99 + "[" * 99,
    "brackets in texts": f"a = \"{'[' * 99}\"\nb = '{'{' * 99}'",
    "many headers": "\n".join(f"[[t{n}]]\n[t{n}.x]" for n in range(99)),
    "many lines in an array": "a = [\n" + "  [1.5, {x = 2}],\n" * 99 + "]",
}  # fmt: skip


@pytest.mark.parametrize("text", NOT_DEEP.values(), ids=NOT_DEEP)
def test_what_only_looks_deep_is_read(text: str) -> None:
    assert isinstance(parse(text), dict)


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize(
    "text", ["a", '"', "'''", '"""', '\\"""', '\\"', '"\\', "a ", "a.", "[", "]", "#", "'\""]
)
def test_no_text_takes_long(text: str) -> None:
    for start in ("", 'a = """', 'a = "', "a = "):
        with pytest.raises(UnreadableError):
            parse(start + text * (2**20 // len(text)) + "\na ~")
