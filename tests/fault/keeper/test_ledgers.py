"""What is left behind where a keeper was killed, too, is found by the next, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugkeep.keeper import sweeping
from plugkeep.keeper.book import Book, here
from plugkeep.keeper.killing import start_of
from plugkeep.keeper.ledger import Process, headline, line

RunHost = Callable[..., str]
Gone = Callable[[int], None]

REPORT = "killed what a host and its keeper had left behind that were killed"
#: A program to which the kernel does nothing when its parent ends, with another one in its group.
UNTIED = """
import ctypes, os, signal
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
if not (child := os.fork()):
    signal.pause()
os.write(2, b"group %d\\n" % child)
os.write(1, b'{"ready":true}')
signal.pause()
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where the hosts of a test keep theirs."""
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that is nobody's business, the leader of a group."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def ledgers(runtime: Path) -> list[Path]:
    return sorted(runtime.glob("plugkeep*/*"))


# --- what hosts do ------------------------------------------------------------------------------


def test_a_ledger_is_there_as_long_as_its_keeper(
    begin_host: Any, gone: Gone, runtime: Path, source: Any
) -> None:
    host = begin_host(
        """
        plugin = isolate("file:" + sys.argv[1], name="forked")
        plugin.start()
        program = ExecSandbox("sh", "-c", OBEY, name="launched")
        program.start()
        say(plugin.pid, program.pid, zygote(), keeper(), os.getpid())
        sys.stdin.readline()
        program.stop()
        say("stopped")
        signal.pause()
        """,
        source(),
        stdin=subprocess.PIPE,
    )
    plugin, program, zygote, keeper, own = map(int, host.stdout.readline().split())
    (path,) = ledgers(runtime)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.split() for each in path.read_text().splitlines()] == [
        ["plugkeep-ledger", "1", *(each.decode() for each in here())],
        ["host", str(own), str(start_of(own))],
        ["keeper", str(keeper), str(start_of(keeper))],
        ["child", str(zygote), str(start_of(zygote)), "(zygote)"],
        ["child", str(plugin), str(start_of(plugin)), "forked"],
        ["child", str(program), str(start_of(program)), "launched"],
    ]
    host.stdin.write("\n")
    host.stdin.flush()
    assert host.stdout.readline() == "stopped\n"
    assert "launched" not in path.read_text()
    host.kill()
    gone(keeper)
    assert ledgers(runtime) == []


@pytest.mark.parametrize("who", ["as it is", "ordinary"])
def test_the_next_host_kills_what_was_left_behind(
    begin_host: Any, run_host: RunHost, gone: Gone, runtime: Path, who: str
) -> None:
    if who == "ordinary" and not os.getuid():
        os.chown(runtime, 4711, 4711)
    runtime.parent.chmod(0o755)
    untied = f"be({who!r})\nUNTIED = {UNTIED!r}\n"
    host = begin_host(
        untied
        + """
plugin = ExecSandbox(sys.executable, "-S", "-c", UNTIED, name="untied")
plugin.start()
say(plugin.pid, keeper())
signal.pause()
"""
    )
    # What the program says itself is logged, sooner or later.
    words = " ".join(sorted(host.stdout.readline() for _ in range(2))).split()
    pid, keeper, group = int(words[0]), int(words[1]), int(words[-1])
    os.kill(keeper, signal.SIGSTOP)
    host.kill()
    os.kill(keeper, signal.SIGKILL)
    gone(keeper)
    for each in (pid, group):
        os.kill(each, 0)  # it is there
    said = run_host(
        untied
        + """
with ExecSandbox("sh", "-c", OBEY) as sandbox:
    say("next")
"""
    )
    gone(pid)
    gone(group)
    assert said == f"WARNING {REPORT}: untied ({pid})\nnext\n"
    assert ledgers(runtime) == []


def test_hosts_that_come_and_go_beside_each_other_harm_nobody(
    begin_host: Any, runtime: Path
) -> None:
    body = """
        import select
        for number in range(20):
            with ExecSandbox("sh", "-c", OBEY, name=f"p{number}") as sandbox:
                os.kill(sandbox.pid, 0)
            if number % 5 == 0:
                watched = os.pidfd_open(keeper())
                os.kill(keeper(), signal.SIGKILL)
                select.select([watched], [], [])
        say("all")
        """
    hosts = [begin_host(body) for _ in range(6)]
    for host in hosts:
        said, _ = host.communicate(timeout=60)
        assert said.endswith("all\n")
        assert "left behind" not in said


# --- what is in a ledger ------------------------------------------------------------------------


def forged(keeper: Process, child: Process, boot: bytes, space: bytes) -> bytes:
    head = headline(boot, space), line(b"host", keeper), line(b"keeper", keeper)
    return b"".join([*head, line(b"child", child)])


def sweep(runtime: Path) -> list[str]:
    said: list[str] = []
    folder = sweeping.open_folder(str(runtime / "plugkeep"))
    try:
        sweeping.sweep(folder, said.append)
    finally:
        os.close(folder)
    return said


@pytest.mark.parametrize(
    ("forgery", "dies", "stays"),
    [
        ("none", True, False),
        ("start", False, False),
        ("boot", False, False),
        ("namespace", False, True),
        ("living keeper", False, True),
        ("locked", False, True),
        ("garbage", False, False),
        ("later version", False, True),
        ("another's", False, True),
        ("link", False, True),
        ("hard link", False, True),
        ("pipe", False, True),
    ],
)
def test_only_what_is_named_with_all_that_it_is_is_killed(
    runtime: Path, sleeper: subprocess.Popen[bytes], forgery: str, dies: bool, stays: bool
) -> None:
    (folder := runtime / "plugkeep").mkdir(0o700)
    boot, space = here()
    start = start_of(sleeper.pid)
    assert start
    child = Process(sleeper.pid, start + (forgery == "start"), "forged")
    keeper = Process(os.getpid(), (start_of(os.getpid()) or 0) + (forgery != "living keeper"))
    boot = b"other" if forgery == "boot" else boot
    text = forged(keeper, child, boot, b"pid:[1]" if forgery == "namespace" else space)
    if forgery == "garbage":
        text = text.replace(b"plugkeep", b"plugkept")
    elif forgery == "later version":
        text = text.replace(b"ledger 1", b"ledger 2")
    path, elsewhere = folder / "1.ledger", runtime / "file"
    elsewhere.write_bytes(text)
    if forgery == "link":
        path.symlink_to(elsewhere)
    elif forgery == "hard link":
        path.hardlink_to(elsewhere)
    elif forgery == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(text)
    if forgery == "another's":
        if os.getuid():
            pytest.skip("only root can have files be somebody else's")
        os.chown(path, 4711, 4711)
    with path.open("rb+" if forgery == "pipe" else "rb", 0) as file:
        if forgery == "locked":
            sweeping.flock(file, sweeping.LOCK_EX)
        said = sweep(runtime)
    if dies:
        assert sleeper.wait(30) == -signal.SIGKILL
        assert said == [f"{REPORT}: forged ({sleeper.pid})"]
    else:
        assert sleeper.poll() is None
        assert len(said) == (forgery == "garbage")
    assert path.is_symlink() or path.exists() if stays else not path.exists()


def test_where_the_kernel_knows_no_groups_of_descriptors_the_group_is_killed_as_well(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.9. There must be no moment at which the number is somebody else's."""
    reader, writer = os.pipe()
    script = "import os, time; os.fork(); os.write(1, b'.'); time.sleep(600)"
    with subprocess.Popen(
        ["python3", "-S", "-c", script], stdout=writer, start_new_session=True
    ) as process:
        os.close(writer)
        assert os.read(reader, 1) + os.read(reader, 1) == b".."
        start = start_of(process.pid)
        assert start
        monkeypatch.setattr(sweeping, "_PROCESS_GROUP", 1 << 30)
        assert sweeping.kill(Process(process.pid, start))
    assert os.read(reader, 1) == b""
    os.close(reader)


# --- where it cannot be written -----------------------------------------------------------------


def link(runtime: Path, place: Path) -> None:
    (runtime / "elsewhere").mkdir(0o700)
    place.symlink_to(runtime / "elsewhere")


def elses(runtime: Path, place: Path) -> None:
    if os.getuid():
        pytest.skip("only root can have folders be somebody else's")
    place.mkdir(0o700)
    os.chown(place, 4711, 4711)


def locked_away(runtime: Path, place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


@pytest.mark.parametrize(
    "spoil", [link, elses, locked_away, lambda _, place: place.write_text("a file")]
)
def test_where_there_can_be_no_ledger_plugins_start_and_the_log_says_so_once(
    run_host: RunHost, runtime: Path, spoil: Callable[[Path, Path], object]
) -> None:
    (runtime / "tmp").mkdir()
    spoil(runtime, runtime / "plugkeep")
    (runtime / "tmp" / f"plugkeep-{os.getuid()}").symlink_to(runtime)
    before = sorted(runtime.rglob("*"))
    said = run_host(
        """
        for _ in range(2):
            with ExecSandbox("sh", "-c", OBEY):
                say("runs")
            os.nice(1)  # so that there is another keeper
        """,
        env={**os.environ, "TMPDIR": str(runtime / "tmp")},
    )
    warning, *rest = said.splitlines()
    assert warning.startswith("WARNING what would be left of a host that is killed is not noted")
    assert str(runtime / "plugkeep") in warning
    assert rest == ["runs", "runs"]
    assert sorted(runtime.rglob("*")) == before


def test_a_runtime_folder_of_another_user_is_none(run_host: RunHost, runtime: Path) -> None:
    """As after ``sudo``, which may leave the caller's in the environment."""
    if os.getuid():
        pytest.skip("only root can have folders be somebody else's")
    (theirs := runtime / "theirs").mkdir(0o700)
    os.chown(theirs, 4711, 4711)
    said = run_host(
        """
        with ExecSandbox("sh", "-c", OBEY):
            say(*os.listdir(os.environ["XDG_RUNTIME_DIR"]))
            say(len(os.listdir(os.environ["TMPDIR"] + "/plugkeep-0")))
        """,
        env={**os.environ, "XDG_RUNTIME_DIR": str(theirs)},
    )
    assert said == "\n1\n"


def test_a_full_disk_is_said_once_and_holds_up_nothing(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    book = sweeping.open_book(os.environ, said.append)
    assert book.is_open
    monkeypatch.setattr(os, "pwrite", full)
    book.enter(os.getpid(), b"one")
    book.enter(os.getppid(), b"two")
    book.strike(os.getpid())
    book.close()
    assert said == ["processes cannot be noted down in the ledger: [Errno 28] full"]
    assert ledgers(runtime) == []
    assert not sweeping.open_book(os.environ, said.append).is_open
    assert "full" in said[1]
    assert ledgers(runtime) == []


def full(*_: object) -> int:
    raise OSError(28, "full")


def test_lines_of_what_is_gone_are_used_again(runtime: Path) -> None:
    book = Book(pytest.fail)
    folder = sweeping.open_folder(str(runtime / "plugkeep"))
    book.open(folder)
    (path,) = ledgers(runtime)
    for _ in range(50):
        book.enter(os.getpid(), b"one")
        book.enter(os.getppid(), b"two")
        book.strike(os.getpid())
        book.enter(os.getpid(), b"three")
        book.strike(os.getppid())
        book.strike(os.getpid())
    assert len(path.read_text().splitlines()) == 5
    assert len(path.read_text().split()) == 4 + 3 + 3
    book.close()
    os.close(folder)
