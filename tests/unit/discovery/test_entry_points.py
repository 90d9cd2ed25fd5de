"""Which entry points are found, in which order, and what is said of those that are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from plugkeep.discovery import GROUP, discover_entry_points
from plugkeep.spec import PluginSpec

pytestmark = pytest.mark.usefixtures("all_settled")

DECLARED = "[plugkeep.plugins]\nclock = shop.clock:Clock\n"


def found(*path: Path | str, group: str = GROUP) -> dict[str, str]:
    """Return name and source of what is found, in order: read, from the cache, without it."""
    first = discover_entry_points(group, path=path)
    assert discover_entry_points(group, path=path) == first
    assert discover_entry_points(group, path=path, cache=False) == first
    return {spec.name: spec.source for spec in first}


def test_a_spec_says_where_the_plugin_comes_from(site: Path, distribution: Any) -> None:
    distribution("shop_clock-1.2.dist-info", DECLARED)
    expected = PluginSpec(
        name="clock", source="python:shop.clock:Clock", version="1.2", origin="shop-clock 1.2"
    )
    assert discover_entry_points(path=[str(site)]) == [expected]


def test_the_default_path_is_that_of_imports(
    site: Path, distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution("shop-1.dist-info", "[test.only]\nclock = shop\n")
    assert discover_entry_points("test.only") == []
    monkeypatch.syspath_prepend(site)
    assert [spec.origin for spec in discover_entry_points("test.only")] == ["shop 1"]


def test_nothing_but_the_group_asked_for_is_found(site: Path, distribution: Any) -> None:
    distribution(
        "shop-1.dist-info",
        "[console_scripts]\nshop = shop:main\n[plugkeep.plugins]\na = m\n[other.plugins]\nb = n\n",
    )
    assert found(site) == {"a": "python:m"}
    assert found(site, group="other.plugins") == {"b": "python:n"}
    assert found(site, group="nobody.has.this") == {}


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("shop.clock:Clock", "python:shop.clock:Clock"),
        ("shop.clock", "python:shop.clock"),
        ("shop:Parts.clock", "python:shop:Parts.clock"),
        ("shop : clock", "python:shop:clock"),
        ("shop:clock [fast]", "python:shop:clock"),
        ("shop:clock[fast,safe]", "python:shop:clock"),
        ("shop [fast]", "python:shop"),
        ("café.ün:Größe", "python:café.ün:Größe"),
    ],
)
def test_what_an_entry_point_may_refer_to(
    value: str, source: str, site: Path, distribution: Any
) -> None:
    distribution("shop-1.dist-info", f"[{GROUP}]\nclock = {value}\n")
    assert found(site) == {"clock": source}


@pytest.mark.parametrize(
    "line",
    [
        "clock",
        "clock =",
        "clock = shop:",
        "clock = shop:clock:again",
        "clock = shop-clock:Clock",
        "clock = ../shop.py",
        "clock = 1shop:x",
        "clock = shop:clock [fast",
        "clock = shop clock",
    ],
)
def test_a_malformed_line_is_skipped_and_named(
    line: str, site: Path, distribution: Any, caplog: pytest.LogCaptureFixture
) -> None:
    info = distribution("shop-1.dist-info", f"[{GROUP}]\n{line}\ngood = shop\n")
    assert found(site) == {"good": "python:shop"}
    warning = caplog.messages[0]
    assert f"{info}/entry_points.txt" in warning
    assert "shop 1" in warning
    assert repr(line.removesuffix(" =")) in warning


@pytest.mark.parametrize("name", ["two words", "a/b", "_hidden", "", "naïve!", "x:y"])
def test_a_name_that_no_plugin_can_have_is_skipped_and_named(
    name: str, site: Path, distribution: Any, caplog: pytest.LogCaptureFixture
) -> None:
    distribution("shop-1.dist-info", f"[{GROUP}]\n{name} = shop\ngood = shop\n")
    assert found(site) == {"good": "python:shop"}
    assert "shop 1" in caplog.messages[0]
    assert repr(f"{name} = shop") in caplog.messages[0]


def test_lines_of_other_groups_are_nobodys_business(
    site: Path, distribution: Any, caplog: pytest.LogCaptureFixture
) -> None:
    distribution("shop-1.dist-info", f"stray\n[console_scripts]\n???\n[{GROUP}]\na = m\n")
    assert found(site) == {"a": "python:m"}
    assert caplog.messages == []


def test_layout_does_not_matter(site: Path, distribution: Any) -> None:
    distribution(
        "shop-1.dist-info",
        f"\ufeff# of the shop\r\n\n  [{GROUP}]  \r\n; more\n  a=m\t\n\n#b = n\n[x]\nc = o\n"
        f"[{GROUP}]\n\td  =  p : q  ",
    )
    assert found(site) == {"a": "python:m", "d": "python:p:q"}


def test_a_stray_byte_spoils_its_line_only(
    site: Path, distribution: Any, caplog: pytest.LogCaptureFixture
) -> None:
    info = distribution("shop-1.dist-info", "")
    content = f"[{GROUP}]\n# caf\xe9\nbad = caf\xe9\ngood = shop\n".encode("latin-1")
    (info / "entry_points.txt").write_bytes(content)
    assert found(site) == {"good": "python:shop"}
    assert len(set(caplog.messages)) == 1


def test_order_is_path_then_distribution_then_file(tmp_path: Path, distribution: Any) -> None:
    second, first = tmp_path / "a", tmp_path / "b"
    distribution("zebra-1.dist-info", f"[{GROUP}]\nz2 = m\nz1 = m\n", into=first)
    distribution("Ape-1.dist-info", f"[{GROUP}]\na = m\n", into=first)
    distribution("bee-1.dist-info", f"[{GROUP}]\nb = m\n", into=second)
    assert list(found(first, second)) == ["a", "z2", "z1", "b"]
    assert list(found(second, first)) == ["b", "a", "z2", "z1"]


def test_a_distribution_hides_others_of_its_name_further_down(
    tmp_path: Path, distribution: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    distribution("my_shop-2.dist-info", f"[{GROUP}]\nnew = m\n", into=first)
    distribution("My.Shop-1.dist-info", f"[{GROUP}]\nold = m\n", into=second)
    distribution("bare-2.dist-info", into=first)
    distribution("bare-1.dist-info", f"[{GROUP}]\ngone = m\n", into=second)
    assert list(found(first, second)) == ["new"]
    assert list(found(second, first)) == ["gone", "old"]
    assert caplog.messages == []


def test_of_two_plugins_of_one_name_the_first_is_taken(
    site: Path, distribution: Any, caplog: pytest.LogCaptureFixture
) -> None:
    distribution("alpha-1.dist-info", f"[{GROUP}]\nclock = alpha\n")
    distribution("beta-2.dist-info", f"[{GROUP}]\nclock = beta\nother = beta\n")
    assert found(site) == {"clock": "python:alpha", "other": "python:beta"}
    warning = caplog.messages[0]
    assert "'clock'" in warning
    assert "beta 2" in warning
    assert "alpha 1" in warning


def test_of_what_a_broken_upgrade_left_the_last_modified_counts(
    site: Path, distribution: Any
) -> None:
    for folder, mtime in (("shop-1.10.dist-info", 2000), ("shop-1.9.dist-info", 1000)):
        info = distribution(folder, f"[{GROUP}]\na = m\n")
        os.utime(info, (mtime, mtime))
    assert [spec.version for spec in discover_entry_points(path=[site], cache=False)] == ["1.10"]
    os.utime(site / "shop-1.9.dist-info", (3000, 3000))
    assert [spec.version for spec in discover_entry_points(path=[site], cache=False)] == ["1.9"]


def test_what_pip_is_about_to_remove_is_gone(site: Path, distribution: Any) -> None:
    distribution("~hop-1.dist-info", DECLARED)
    assert found(site) == {}


@pytest.mark.parametrize(
    ("folder", "origin"),
    [
        ("shop-1.0.dist-info", "shop 1.0"),
        ("shop-1.0+local.1.dist-info", "shop 1.0+local.1"),
        ("shop-1!2.0rc1.dist-info", "shop 1!2.0rc1"),
        ("shop-1.0-py3.11.egg-info", "shop 1.0"),
        ("shop-1.0-py3.11-linux-x86_64.egg-info", "shop 1.0"),
        ("shop-1.0.egg-info", "shop 1.0"),
    ],
)
def test_the_version_is_in_the_folder_name(
    folder: str, origin: str, site: Path, distribution: Any
) -> None:
    distribution(folder, DECLARED)
    assert [spec.origin for spec in discover_entry_points(path=[site])] == [origin]


def test_a_source_tree_has_its_version_in_pkg_info(site: Path, distribution: Any) -> None:
    info = distribution("my_shop.egg-info", DECLARED)
    assert discover_entry_points(path=[site])[0].version is None
    (info / "PKG-INFO").write_text("Name: my-shop\nVersion: 3.0\n\nVersion: of the story\n")
    spec = discover_entry_points(path=[site])[0]
    assert (spec.version, spec.origin) == ("3.0", "my-shop 3.0")


def test_a_legacy_file_in_place_of_a_folder_declares_nothing(site: Path) -> None:
    (site / "shop-1.egg-info").write_text("Name: shop\nVersion: 1\n")
    assert found(site) == {}


def test_an_egg_on_the_path_is_a_distribution(tmp_path: Path, distribution: Any) -> None:
    egg = tmp_path / "my_shop-1.0-py3.11.egg"
    distribution("EGG-INFO", DECLARED, into=egg)
    assert [spec.origin for spec in discover_entry_points(path=[egg])] == ["my-shop 1.0"]


@pytest.mark.parametrize("name", ["bundle.zip", "my_shop-1.0-py3.11.egg"])
def test_archives_on_the_path_are_looked_into(name: str, tmp_path: Path) -> None:
    folder = "EGG-INFO" if name.endswith(".egg") else "my_shop-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("shop/clock.py", "raise SystemExit\n")
        archive.writestr(f"{folder}/entry_points.txt", DECLARED)
    assert found(tmp_path / name) == {"clock": "python:shop.clock:Clock"}
    assert [spec.origin for spec in discover_entry_points(path=[tmp_path / name])] == [
        "my-shop 1.0"
    ]


def test_a_damaged_archive_is_skipped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shop-1.dist-info/entry_points.txt", DECLARED * 100)
    damaged = tmp_path / "damaged.zip"
    content = bytearray(whole.read_bytes())
    content[60:70] = b"\xff" * 10
    damaged.write_bytes(content)
    assert found(damaged) == {}
    assert str(damaged) in caplog.messages[0]


def test_entries_that_hold_nothing_are_passed_over(
    tmp_path: Path, site: Path, distribution: Any, caplog: pytest.LogCaptureFixture
) -> None:
    distribution("shop-1.dist-info", DECLARED)
    (site / "notes-1.dist-info").symlink_to(tmp_path / "nowhere")
    (site / "fifo-1.dist-info").mkdir()
    os.mkfifo(site / "fifo-1.dist-info" / "entry_points.txt")
    text = tmp_path / "text"
    text.write_text("no archive")
    odd: list[Any] = [tmp_path / "missing", text, "/dev/null", "nul\0", "\ud800", None, 3, b"x"]
    assert found(*odd, site, f"{site}/", site) == {"clock": "python:shop.clock:Clock"}
    assert caplog.messages == []


def test_an_empty_entry_is_the_current_folder(
    site: Path, distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution("shop-1.dist-info", DECLARED)
    monkeypatch.chdir(site.parent)
    assert found("") == {}
    assert list(found(site.name)) == ["clock"]
    monkeypatch.chdir(site)
    assert list(found("")) == ["clock"]


def test_a_current_folder_that_is_gone_holds_nothing(
    tmp_path: Path, site: Path, distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution("shop-1.dist-info", DECLARED)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert list(found("", "relative", site)) == ["clock"]


def test_any_text_may_be_a_group(site: Path, distribution: Any) -> None:
    distribution("shop-1.dist-info", DECLARED)
    for group in ("", "a\nb", "\ud800", "[x]", GROUP[:-1]):
        assert found(site, group=group) == {}


def test_a_path_that_is_one_text_is_refused() -> None:
    with pytest.raises(TypeError, match=r"write \('/site',\)"):
        discover_entry_points(path="/site")


def run(program: str, *args: object, **options: Any) -> Any:
    command = [sys.executable, "-c", program, *map(str, args)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming an ordinary user takes root")
def test_what_cannot_be_read_is_skipped_and_named(everybodys: Path, distribution: Any) -> None:
    site, no_entry = everybodys / "site", everybodys / "no-entry"
    closed = distribution("closed-1.dist-info", DECLARED, into=site)
    (closed / "entry_points.txt").chmod(0)
    distribution("locked-1.dist-info", DECLARED, into=site).chmod(0)
    distribution("open-1.dist-info", f"[{GROUP}]\nopen = m\n", into=site)
    distribution("never-1.dist-info", DECLARED, into=no_entry)
    no_entry.chmod(0)
    program = """if True:
        import json, logging, os, sys
        from plugkeep.discovery import discover_entry_points
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        messages = []
        class Keep(logging.Handler):
            def emit(self, record): messages.append(record.getMessage())
        logging.getLogger("plugkeep.discovery").addHandler(Keep())
        names = [spec.name for spec in discover_entry_points(path=sys.argv[1:])]
        print(json.dumps([names, messages]))
    """
    names, messages = run(program, no_entry, site)
    assert names == ["open"]
    assert sorted(message.partition(" ")[0] for message in messages) == [
        f"{closed}/entry_points.txt",
        f"{site}/locked-1.dist-info/entry_points.txt",
    ]


def test_no_plugin_and_nothing_heavy_is_imported(site: Path, distribution: Any) -> None:
    distribution("shop-1.dist-info", "[plugkeep.plugins]\nclock = antigravity:Clock\n")
    program = """if True:
        import json, sys
        from plugkeep.discovery import discover_entry_points
        before = set(sys.modules)
        specs = discover_entry_points(path=sys.argv[1:])
        print(json.dumps([len(specs), sorted(set(sys.modules) - before), sorted(before)]))
    """
    found, imported, before = run(program, site)
    assert found == 1
    assert imported == []
    heavy = {"antigravity", "asyncio", "importlib.metadata", "json.tool", "logging", "msgspec"}
    assert heavy & set(before) == set()
    assert {"subprocess", "tempfile", "tomllib", "zipfile"} & set(before) == set()
