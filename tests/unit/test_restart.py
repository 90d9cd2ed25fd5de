"""What becomes of a plugin that has failed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugkeep.restart import RestartPolicy, Verdict, decide


@pytest.mark.parametrize(
    ("when", "clean", "expected"),
    [
        ("temporary", False, "leave"),
        ("temporary", True, "leave"),
        ("transient", False, "restart"),
        ("transient", True, "leave"),
        ("permanent", False, "restart"),
        ("permanent", True, "restart"),
    ],
)
def test_the_policy_says_which_ends_count(when, clean, expected):
    policy = RestartPolicy(when=when)
    assert decide(policy, clean=clean, earlier=(), now=100.0, luck=0.5).action == expected


def test_it_is_started_again_five_times_in_ten_seconds_and_no_more():
    policy = RestartPolicy(when="permanent")
    earlier = [100.0, 101.0, 102.0, 103.0, 104.0]
    assert decide(policy, clean=False, earlier=earlier[:-1], now=104.0, luck=0.0).delay == 1.6
    assert decide(policy, clean=False, earlier=earlier, now=104.5, luck=0.0).action == "quarantine"
    assert decide(policy, clean=False, earlier=earlier, now=110.0, luck=0.0).action == "restart"


def test_the_pauses_double_up_to_the_longest():
    policy = RestartPolicy(when="permanent", intensity=8)
    pauses = [
        decide(policy, clean=False, earlier=[0.0] * n, now=0.0, luck=0.0).delay for n in range(7)
    ]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_none_at_all_with_intensity_0():
    policy = RestartPolicy(when="permanent", intensity=0)
    verdict = decide(policy, clean=False, earlier=(), now=0.0, luck=0.0)
    assert verdict == Verdict("quarantine")


times = st.floats(-1e9, 1e9)
policies = st.builds(
    lambda when, intensity, period, delays, jitter: RestartPolicy(
        when=when,
        intensity=intensity,
        period=period,
        delay=min(delays),
        max_delay=max(delays),
        jitter=jitter,
    ),
    st.sampled_from(["temporary", "transient", "permanent"]),
    st.integers(0, 1000),
    st.floats(0.001, 1e6),
    st.tuples(st.floats(0, 100), st.floats(0, 100)),
    st.floats(0, 1),
)


@given(policies, st.booleans(), st.lists(times), times, st.floats(0, 1))
def test_a_pause_is_never_below_what_chance_may_take_nor_above_the_longest(
    policy, clean, earlier, now, luck
):
    verdict = decide(policy, clean=clean, earlier=earlier, now=now, luck=luck)
    if verdict.action == "restart":
        least = policy.delay * (1 - policy.jitter)
        assert least * (1 - 1e-9) <= verdict.delay <= policy.max_delay
    else:
        assert verdict.delay == 0.0


@given(policies, st.lists(times), times, times)
def test_a_clock_that_jumps_back_forgets_and_never_forbids(policy, earlier, now, jump):
    """Whatever restarts there were, none of them counts that has not been yet."""
    later = [max(now, each) + 1.0 + abs(jump) for each in earlier]
    verdict = decide(policy, clean=False, earlier=later, now=now, luck=0.0)
    assert verdict == decide(policy, clean=False, earlier=(), now=now, luck=0.0)


@given(policies, st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_within_no_period_are_there_more_restarts_than_the_intensity(policy, gaps):
    """A plugin that fails again and again, each time `gap` seconds after the one before."""
    now, restarts = 0.0, []
    for gap in gaps:
        now += gap
        verdict = decide(policy, clean=False, earlier=restarts, now=now, luck=0.0)
        if verdict.action != "restart":
            break
        restarts.append(now)
    for last in restarts:
        within = [each for each in restarts if last - policy.period < each <= last]
        assert len(within) <= policy.intensity


@given(policies, st.lists(times), times, st.floats(0, 1))
def test_more_restarts_never_make_a_shorter_pause(policy, earlier, now, luck):
    fewer = decide(policy, clean=False, earlier=earlier, now=now, luck=luck)
    more = decide(policy, clean=False, earlier=[*earlier, now], now=now, luck=luck)
    if fewer.action == more.action == "restart":
        assert more.delay >= fewer.delay
    else:
        assert more.action in (fewer.action, "quarantine")


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"when": "always"}, ValueError, "when is 'always'; it can be: 'temporary'"),
        ({"dependents": "stop"}, ValueError, "dependents is 'stop'; it can be: 'restart', 'keep'"),
        ({"intensity": -1}, ValueError, "intensity is -1"),
        ({"intensity": 1.5}, TypeError, "intensity is 1.5; it takes a whole number"),
        ({"intensity": True}, TypeError, "intensity is True"),
        ({"period": 0}, ValueError, "period is 0; it takes seconds above 0"),
        ({"period": math.nan}, ValueError, "period is nan"),
        ({"period": math.inf}, ValueError, "period is inf"),
        ({"period": "10s"}, TypeError, "period is '10s'"),
        ({"delay": -0.1}, ValueError, "delay is -0.1"),
        ({"delay": 3.0}, ValueError, "delay is 3 s, which is above max_delay, 2 s"),
        ({"max_delay": 0.05}, ValueError, "delay is 0.1 s, which is above max_delay, 0.05 s"),
        ({"jitter": 1.1}, ValueError, "jitter is 1.1; it takes a part, from 0 to 1"),
        ({"jitter": False}, TypeError, "jitter is False"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields, error, words):
    with pytest.raises(error) as caught:
        RestartPolicy(**fields)
    assert str(caught.value).startswith(words)
