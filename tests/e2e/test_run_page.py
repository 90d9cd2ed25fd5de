"""The runner of snippets runs what a reader would, and sees what is wrong with a page."""

from __future__ import annotations

import pytest


@pytest.fixture
def run(run_page, tmp_path):
    def run(text):
        page = tmp_path / "page.md"
        page.write_text(text)
        return run_page(page)

    return run


def test_fences_share_a_namespace_a_folder_and_the_order_of_the_page(run):
    result = run("""
```python
import pathlib
word = "one"
```
Some prose with `code`.
```sh
echo two > word.txt
```
```python
assert word == "one"
assert pathlib.Path("word.txt").read_text() == "two\\n"
print("end", "of page")
```
""")
    assert (result.returncode, result.stdout) == (0, "end of page\n"), result.stderr


def test_a_file_is_written_without_its_first_line_and_executable_if_it_is_a_script(run):
    result = run("""
1.  In a list, indented:

    ```sh
    # file: bin/hello
    #!/bin/sh
    echo "hello $1"
    ```

```python
# file: helper.py
value = 42
```
```c
/* file: a.c */
int main(void) { return 0; }
```
```html
<!-- file: a.html -->
<p>
```
```python
import pathlib
from helper import value
assert value == 42
assert pathlib.Path("a.c").read_text() == "int main(void) { return 0; }\\n"
assert pathlib.Path("a.html").read_text() == "<p>\\n"
```
```sh
test "$(bin/hello world)" = "hello world"
```
""")
    assert result.returncode == 0, result.stderr


def test_a_longer_fence_shows_a_shorter_one(run):
    result = run("""
````markdown
```python
raise SystemExit("shown, not run")
```
````
""")
    assert result.returncode == 0, result.stderr


def test_what_a_page_defines_can_be_pickled(run):
    result = run("""
```python
import pickle
from dataclasses import dataclass

@dataclass
class Point:
    x: int

assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
```
""")
    assert result.returncode == 0, result.stderr


def test_a_missing_program_is_said_and_the_rest_is_run(run):
    result = run("""
```sh requires=sh,no-such-program
exit 1
```
```python
print("reached")
```
""")
    assert result.returncode == 0, result.stderr
    assert "page.md:3: needs no-such-program" in result.stdout
    assert "reached" in result.stdout


def test_a_background_process_does_not_outlive_its_fence(run):
    # It would hold the runner's output open, so the run would not end in time.
    result = run("""
```sh
sleep 600 &
```
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("```python\nx = 1\nassert x == 2, 'x is one'\n```", 3, "AssertionError: x is one"),
        ("```python\ndef f():\n    1/0\n```\n\n```python\nf()\n```", 7, "ZeroDivisionError"),
        ("```python\nimport sys\nsys.exit(0)\n```", 3, "SystemExit"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```", 3, "UserWarning: old"),
        ("```python\nx = 1\ny = = 2\n```", 3, "no Python"),
        ("```python no-run=because\ny = = 2\n```", 2, "no Python"),
        ("```sh\ntrue\nfalse\ntrue\n```", 2, "status 1; it went so far:\n+ true\n+ false\n"),
        ("```sh no-run=because\nif\n```", 2, "no shell script"),
        ("text\n```json\n{\n```", 3, "does not parse"),
        ("```jsonl\n{}\n{]\n```", 3, "does not parse"),
        ("```toml\na = 1\na = 2\n```", 2, "does not parse"),
        ("```pyhton\n```", 2, "'pyhton' is none of"),
        ("```python norun=x\n```", 2, "'norun' is none of"),
        ("```python no-run\n```", 2, "no-run needs a value"),
        ("```python\npass\n", 1, "no end"),
        ("```text\n# file: ../x\n```", 3, "outside"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(run, text, line, says):
    result = run(text)
    assert result.returncode == 1
    assert f"page.md:{line}: " in result.stderr
    assert says in result.stderr
