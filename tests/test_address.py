"""What a group's number alone says: family, scope, source-specific or not, and its traps."""

from __future__ import annotations

import pytest

from mcastctl.model import address
from mcastctl.model.errors import AddressError

SCOPES = {"ff01::1": 1, "ff02::1": 2, "ff12::1": 2, "ff15::1": 5, "ff3e::1": 14, "ff0f::": 15}


@pytest.mark.parametrize("group", SCOPES)
def test_the_scope_is_the_last_nibble_of_the_second_byte(group: str) -> None:
    assert address.scope6(group) == SCOPES[group]


def test_an_ipv4_group_has_no_scope_nibble() -> None:
    assert address.scope6("239.1.1.1") is None


@pytest.mark.parametrize("group", ["ff01::1", "ff11::1", "ff02::1", "ff12::1", "ff32::1"])
def test_interface_and_link_local_groups_keep_their_zone(group: str) -> None:
    assert address.keeps_zone(group)


@pytest.mark.parametrize("group", ["ff00::1", "ff03::1", "ff05::1", "ff0e::1", "224.0.0.1"])
def test_wider_groups_do_not_keep_their_zone(group: str) -> None:
    assert not address.keeps_zone(group)


@pytest.mark.parametrize(
    ("host", "kept"), [("fe80::1", True), ("febf::1", True), ("fec0::1", False), ("::1", False)]
)
def test_link_local_hosts_keep_their_zone(host: str, kept: bool) -> None:
    assert address.keeps_zone(host) == kept
    assert not address.keeps_zone("169.254.1.1")


SSM6 = [f"ff3{scope:x}::1" for scope in range(1, 15)]
SSM = ["232.0.0.0", "232.255.255.255", "ff3e::8000:1", "ff35:0:ffff::1", *SSM6]
ASM4 = ["231.255.255.255", "233.0.0.0", "239.1.1.1"]
ASM6 = ["ff12::1", "ff15::1", "ff02::1", "ff2e::1", "ff7e::1", "ff3e:40:2001:db8::1", "ff3e:1::1"]


@pytest.mark.parametrize("group", SSM)
def test_source_specific_groups(group: str) -> None:
    assert address.is_ssm(group)


@pytest.mark.parametrize("group", ASM4 + ASM6)
def test_any_source_groups(group: str) -> None:
    assert not address.is_ssm(group)


@pytest.mark.parametrize("one", ["224.0.0.0", "239.255.255.255", "ff00::", "ffff::1"])
def test_groups(one: str) -> None:
    assert address.is_multicast(one)


@pytest.mark.parametrize("one", ["223.255.255.255", "240.0.0.0", "feff::1", "::ffff:239.1.1.1"])
def test_no_groups(one: str) -> None:
    assert not address.is_multicast(one)


def test_one_spelling_of_each_address() -> None:
    assert address.canonical("FF15:0:0:0::0042") == "ff15::42"
    for wrong in ("239.1.1", "239.01.1.1", "ff15::1::", "", "239.1.1.1/8", "\u0662.1.1.1"):
        with pytest.raises(AddressError) as refused:
            address.canonical(wrong)
        assert refused.value.hint


def test_groups_end_where_their_range_ends() -> None:
    assert address.advance("239.1.1.255", 1) == "239.1.2.0"
    assert address.advance("239.255.255.255", 1) is None
    assert address.advance("ff15::ffff", 1) == "ff15::1:0"
    assert address.advance("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1) is None
    assert address.block("239.1.1.5", 30) == ("239.1.1.4", 4)
    assert address.block("ff15::5", 127) == ("ff15::4", 2)


@pytest.mark.parametrize(
    ("group", "with_sources", "codes"),
    [
        ("232.1.1.1", False, ["ssm-without-source"]),
        ("232.1.1.1", True, []),
        ("ff3e::1", False, ["ssm-without-source"]),
        ("239.1.1.1", False, []),
        ("239.1.1.1", True, []),
        ("224.0.0.0", False, ["reserved-group"]),
        ("224.0.0.1", False, []),
        ("ff10::1", False, ["reserved-group"]),
        ("ff0f::1", False, ["reserved-group"]),
        ("ff3f::1", False, ["ssm-without-source", "reserved-group"]),
        ("ff15::1", False, []),
    ],
)
def test_traps_are_remarked_with_a_remedy(group: str, with_sources: bool, codes: list[str]) -> None:
    found = address.remarks(group, with_sources=with_sources)
    assert [code for code, _, _ in found] == codes
    assert all(group in text and hint for _, text, hint in found)
