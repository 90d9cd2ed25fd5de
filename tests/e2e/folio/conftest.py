"""Folio as its users have it: a process of its own, reached over HTTP."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

FOLIO = Path(__file__).parents[3] / "examples" / "folio"
#: Seconds after which a test gives up; nothing takes as long.
PATIENCE = 60


@dataclass
class Folio:
    """A Folio that runs."""

    process: subprocess.Popen[str]
    url: str
    #: What it has printed until it was ready, and, once it has ended, what it printed in the end.
    start: str
    end: str = ""
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        # No connection is kept, for a test that keeps something open counts as a leak.
        once = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE, limits=once)

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.client.get(path, **options)  # type: ignore[arg-type]

    def press(self, action: str, plugin: str) -> httpx.Response:
        """Do what the button on the page of the plugins does."""
        token = re.search(r'name="token" value="([^"]+)"', self.get("/plugins").text)
        assert token, "the page of the plugins has no button"
        path = f"/plugins/{plugin}/{action}"
        return self.client.post(path, data={"token": token[1]}, follow_redirects=True)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it by a signal and return its exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.end, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode


Start = Callable[..., Folio]


@contextmanager
def folio(
    docs: Path | None, *arguments: str, at: Path = FOLIO, env: dict[str, str] | None = None
) -> Iterator[Folio]:
    """Run Folio on `docs`, by default on this project.

    `at` is the folder of its code, `env` what differs in its environment.
    """
    command = [sys.executable, "-W", "error", at / "main.py", "--port", "0"]
    command += ["--docs", docs] if docs else []
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
    )
    said = _said_until_ready(process)
    url = re.search(r"http://\S+", said)
    if url is None:
        process.kill()
        process.communicate()
        pytest.fail(f"Folio ended before it was ready:\n{said}")
    running = Folio(process, url[0], said)
    try:
        yield running
    finally:
        running.stop()


def _said_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    lines = []
    give_up = threading.Timer(PATIENCE, process.kill)
    give_up.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if "http://" in line:
                break
    finally:
        give_up.cancel()
        give_up.join()
    return "".join(lines)


@pytest.fixture
def start_folio() -> Iterator[Start]:
    """Start Folio on a folder; it is ended with the test, if not before."""
    with ExitStack() as stack:
        yield lambda docs, *arguments, **options: stack.enter_context(
            folio(docs, *arguments, **options)
        )


# --- a copy of Folio's code, to be changed ------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder of such a copy."""
    ignore = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(FOLIO, tmp_path / "folio", ignore=ignore)


@pytest.fixture
def edit() -> Callable[[Path, str, str], None]:
    """Replace a piece of a file, which has to be there once."""
    return _edit


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} has no {old!r}, or more than one"
    file.write_text(text.replace(old, new))


class Halt:
    """A place in a plugin's code where it waits for the test."""

    def __init__(self, folder: Path) -> None:
        self._there, self._go = folder / "there", folder / "go"
        for fifo in (self._there, self._go):
            os.mkfifo(fifo)
        # Opened for both, so that neither side waits for the other to open it.
        self._seen = os.open(self._there, os.O_RDWR | os.O_NONBLOCK)
        self._hold = os.open(self._go, os.O_RDWR)

    def put_before(self, file: Path, statement: str) -> None:
        wait = "__import__('pathlib').Path"
        lines = f"{wait}({str(self._there)!r}).write_text('!')\n"
        lines += f"        {wait}({str(self._go)!r}).read_text()\n"
        _edit(file, f"        {statement}", f"        {lines}        {statement}")

    def wait(self) -> None:
        assert select.select([self._seen], [], [], PATIENCE)[0], "no request came this far"

    def end(self) -> None:
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    def close(self) -> None:
        self.end()
        os.close(self._seen)


@pytest.fixture
def halt(tmp_path: Path) -> Iterator[Halt]:
    with closing(Halt(tmp_path)) as made:
        yield made


# --- what a page shows --------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page, each as its tag and its attributes; and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.all if each == tag]

    def links(self) -> list[str]:
        return [each.get("href") or "" for each in self.of("a")]


@pytest.fixture(scope="session")
def elements() -> Callable[[str], Elements]:
    return Elements


# --- one folder, with all that is difficult in folders ------------------------------------------


GUIDE = """\
# The guide

Start with [the other one](more/other.md#deep-down), look at [the code](more/hello.py#L2).

| Name | Price |
|:-----|------:|
| tea  | 3.50  |

## First steps

```python
def greet(name: str) -> str:
    return f"Hello, {name}"
```

## First steps

The same heading again, and a picture: ![A dot](dot.png)
"""

EVIL = """\
# <img src=x onerror=alert(1)>

<script>alert(1)</script> <b onclick="alert(1)">bold</b>

[one](javascript:alert(1)) [two](JaVa%53cript:alert(1)) [three](data:text/html;base64,PHNjcmlwdD4)
[four](vbscript:x) [five](&#106;avascript:alert(1)) <javascript:alert(1)> [six](file:///etc/passwd)
[seven](http://[::1) ![eight](https://example.org/spy.png) ![nine](javascript:alert(1))

```"><script>alert(1)</script>
code
```
"""

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c"
    "6360f8cf500f0003810180c5fe5c5b0000000049454e44ae426082"
)


def fill(folder: Path) -> None:
    """Put documents into `folder`, and beside it what must not be seen."""
    secret = folder.parent / "secret.txt"
    secret.write_text("top secret")
    files: dict[str, str | bytes] = {
        "guide.md": GUIDE,
        "evil.md": EVIL,
        "<b>bold & \"quoted\" 'name'.txt": "an odd name",
        "latin.txt": "caf\xe9".encode("latin-1"),
        "empty.txt": "",
        "empty.md": "",
        "long.txt": "line\n" * 20_500,
        "dot.png": PIXEL,
        "drawing.svg": "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        "more/other.md": "# Other\n\n## Deep down\n\nBack to [the guide](../guide.md), a zebra.\n",
        "more/hello.py": 'x = 1\nprint("<hello>")\n',
        "more/Über uns/naïve résumé.md": "# Déjà vu\n",
        "binary.dat": b"\0\1\2 zebra",
        "huge.txt": b"zebra " * 200_000,
        ".hidden.md": "zebra",
        ".git/config": "zebra",
        "node_modules/package/readme.md": "zebra",
        "environment/pyvenv.cfg": "zebra",
        "environment/lib.py": "zebra",
    }
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "out.txt").symlink_to(secret)
    (folder / "outside").symlink_to(folder.parent)
    (folder / "round").symlink_to(folder / "round")
    (folder / "within.md").symlink_to(folder / ".hidden.md")
    os.mkfifo(folder / "pipe.txt")
    (folder / os.fsdecode(b"no\xff-utf8.txt")).write_text("zebra")


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folio]:
    """A Folio on that folder, for tests that only read."""
    docs = tmp_path_factory.mktemp("folio") / "docs"
    docs.mkdir()
    fill(docs)
    with folio(docs) as running:
        yield running
