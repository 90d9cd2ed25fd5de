"""Whether a plugin that has ended by itself is started again."""

from __future__ import annotations

import pytest

from plugkeep.restart import INTENSITY, PERIOD, again


@pytest.mark.parametrize(
    ("policy", "clean", "expected"),
    [
        ("temporary", False, False),
        ("temporary", True, False),
        ("transient", False, True),
        ("transient", True, False),
        ("permanent", False, True),
        ("permanent", True, True),
    ],
)
def test_the_policy_says_which_ends_count(policy: str, clean: bool, expected: bool) -> None:
    assert again(policy, clean=clean, earlier=(), now=100.0) is expected  # type: ignore[arg-type]


def test_it_is_started_again_five_times_in_ten_seconds_and_no_more() -> None:
    earlier = [100.0 + n for n in range(INTENSITY)]
    assert again("permanent", clean=False, earlier=earlier[:-1], now=104.0)
    assert not again("permanent", clean=False, earlier=earlier, now=104.5)


def test_what_is_longer_ago_does_not_count() -> None:
    earlier = [100.0] * INTENSITY
    assert not again("permanent", clean=False, earlier=earlier, now=100.0 + PERIOD - 0.001)
    assert again("permanent", clean=False, earlier=earlier, now=100.0 + PERIOD)
