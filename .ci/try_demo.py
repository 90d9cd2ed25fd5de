"""Run `make demo` as a stranger does: in a fresh copy, with nothing set up, then Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Seconds for the environment to be made and the demo to answer; for Ctrl-C to end it.
ANSWERS_WITHIN, ENDS_WITHIN = 240.0, 20.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="a stranger's ") as folder:
        checkout, home = Path(folder, "checkout"), Path(folder, "home")
        home.mkdir()
        copy(checkout)
        port = free_port()
        demo = subprocess.Popen(
            ["make", "demo", f"PORT={port}"],
            cwd=checkout,
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            page = first_page(f"http://127.0.0.1:{port}/", demo)
            print(f"it answers with {len(page)} bytes; Ctrl-C", flush=True)
            os.killpg(demo.pid, signal.SIGINT)
            demo.wait(ENDS_WITHIN)
        finally:
            left = end(demo.pid)
            demo.wait()
    if b"<html" not in page:
        sys.exit(f"the first page is no HTML: {page[:200]!r}")
    if left:
        sys.exit("the demo left processes of its group behind after Ctrl-C")


def copy(checkout: Path) -> None:
    """Copy what git knows or would add, as a clone of the next commit would have it."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, os.fsdecode(listing.stdout).split("\0")):
        if (ROOT / name).is_file():
            target = checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def first_page(url: str, demo: subprocess.Popen[bytes]) -> bytes:
    """Ask for the first page until it comes; nothing but asking tells when a server is up."""
    deadline = time.monotonic() + ANSWERS_WITHIN
    pause = threading.Event()
    while time.monotonic() < deadline:
        if demo.poll() is not None:
            sys.exit(f"make demo ended with {demo.returncode} before it answered")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as response:
            body: bytes = response.read()
            return body
        pause.wait(0.2)
    sys.exit(f"the demo did not answer within {ANSWERS_WITHIN:g} s")


def end(group: int) -> bool:
    """Kill what is left of the process group; say whether there was anything."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
        return True
    return False


if __name__ == "__main__":
    main()
