from __future__ import annotations

import tomllib

import pytest

from plugkeep.config._lines import key_lines

TEXT = '''# a comment = 1
top = 1
[host]
start_timeout = "5s" # [not.a.header]
"quoted.key" = {x = 1, "y z" = [1,
  {b = 2}, "]"], c = {}}
[plugins.clock]
source = """
[not.a.header]
not_a_key = 1
"""
config.url.path = 'a # b'
"caf\\u00e9" = 1
[[list]]
item = 1
[ plugins . 'x y' ]
after = [ [1,2], [3]
 ]
  d.e = 1979-05-27 07:32:00
e = {}
f = [{}]
g = """four quotes""""
h = \'\'\'
\'\'\'
i = ""
j = -inf
'''

WHERE = {
    2: "top",
    4: "host/start_timeout",
    5: "host/quoted.key host/quoted.key/x host/quoted.key/y?z",
    6: "host/quoted.key/y?z/b host/quoted.key/c",
    8: "plugins/clock/source",
    12: "plugins/clock/config plugins/clock/config/url plugins/clock/config/url/path",
    13: "plugins/clock/café",
    14: "list",
    15: "list/item",
    16: "plugins/x?y",
    17: "plugins/x?y/after",
    19: "plugins/x?y/d plugins/x?y/d/e",
    20: "plugins/x?y/e",
    21: "plugins/x?y/f",
    22: "plugins/x?y/g",
    23: "plugins/x?y/h",
    25: "plugins/x?y/i",
    26: "plugins/x?y/j",
    3: "host",
    7: "plugins plugins/clock",
}


def expected():
    return {
        tuple(name.replace("?", " ").split("/")): line
        for line, names in WHERE.items()
        for name in names.split()
    }


def test_every_key_is_found_on_its_line_and_nothing_that_only_looks_like_one():
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == expected()


def test_a_header_given_after_its_subtable_counts_for_itself():
    assert key_lines("[a.b]\nc = 1\n[a]\nd = 1\n") == {
        ("a", "b"): 1,
        ("a", "b", "c"): 2,
        ("a",): 3,
        ("a", "d"): 4,
    }


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only a comment", "}", "]]", "a = [", "= 1", "{", ","]
)
def test_a_text_without_keys_or_a_broken_one_does_no_harm(text):
    assert isinstance(key_lines(text), dict)
