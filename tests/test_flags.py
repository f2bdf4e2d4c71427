"""The bits of the flags column."""

from raydeblend.flags import DESCRIPTIONS, Flag


def test_each_flag_is_one_bit_of_its_own_and_described() -> None:
    assert [flag.value for flag in Flag] == [1 << i for i in range(len(Flag))]
    assert set(DESCRIPTIONS) == set(Flag)
    assert max(Flag) < 1 << 31  # the column is int32
