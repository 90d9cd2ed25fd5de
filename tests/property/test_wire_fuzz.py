"""The coverage-guided fuzzer of the wire, for as long as a test may take.

By hand it goes on for longer: ``python tests/fuzz/fuzz_wire.py --seconds 300``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).parents[1] / "fuzz" / "fuzz_wire.py"


def fuzzed(*options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("atheris", reason="atheris has no wheels for this machine")
    command = [sys.executable, str(FUZZER), *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)


def test_nothing_that_the_fuzzer_thinks_of_breaks_the_wire(tmp_path: Path) -> None:
    done = fuzzed("--runs", "20000", "--seed", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "Done 20000 runs" in done.stderr
    assert list(tmp_path.iterdir()) == []  # no input that led to a finding


def test_an_input_can_be_tried_again(tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.write_bytes(b"\0\0" + b'{"id":1,"method":"m"}\n')
    done = fuzzed(str(found), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "Executed" in done.stderr
