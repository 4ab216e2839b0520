"""How a point in the life of a log is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healer.errors import UnknownNameError
from replay.point import PointError, read_point, require_reached, shown

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("17", 17),
        ("0", 0),
        ("-10m", NOW - timedelta(minutes=10)),
        (" -1h30m ", NOW - timedelta(minutes=90)),
        ("-0s", NOW),
        ("2026-02-28", datetime(2026, 2, 28, tzinfo=UTC)),
        ("2026-02-28T10:00", datetime(2026, 2, 28, 10, tzinfo=UTC)),
        ("2026-02-28 10:00:00.5Z", datetime(2026, 2, 28, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-02-28T10:00:00+02:00", datetime(2026, 2, 28, 8, tzinfo=UTC)),
    ],
)
def test_a_point_is_a_time_a_while_ago_or_a_position(text, point):
    assert read_point(text, NOW) == point


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "-", "-10", "--10m", "10m", "-10 parsecs", "2026-02-30", "12:00", "1.5",
     "-99999999999d", "-1e400s", "٣", "0001-01-01T00:00:00+14:00"],
)  # fmt: skip
def test_what_is_none_is_refused_with_what_is_allowed(text):
    with pytest.raises(PointError, match=r"^cannot read the time .*; allowed: .*-10m"):
        read_point(text, NOW)


@given(st.text(max_size=40))
def test_no_text_does_anything_else(text):
    try:
        point = read_point(text, NOW)
    except PointError as error:
        assert isinstance(error, UnknownNameError)  # noqa: PT017 - how every door takes it
    else:
        assert isinstance(point, int) or point.utcoffset() == timedelta(0)


def test_a_position_behind_the_end_is_refused_and_the_end_is_told():
    require_reached(7, 7)
    require_reached(NOW, 0)
    with pytest.raises(PointError, match="position 8: the log ends at 7; allowed: 0 to 7"):
        require_reached(8, 7)


def test_a_point_is_shown_in_utc():
    assert shown(3) == 3
    assert shown(NOW) == "2026-03-01T12:00:00.000000Z"
