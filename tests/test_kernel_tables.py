"""Readers of the kernel's own tables: type data, symbols, formats of events; also damaged ones."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from mcastctl.host import btf, kallsyms, tracefs

INT, STRUCT, UNION, ENUM, ENUM64 = 1, 4, 5, 6, 19


class Types:
    """Type data in the making (Documentation/bpf/btf.rst)."""

    def __init__(self) -> None:
        self.strings, self.types, self.count = b"\0", b"", 0

    def string(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(
        self, kind: int, name: str, *elements: tuple[str | int, ...], extra: bytes = b""
    ) -> int:
        """A record and its elements: a string first, then numbers."""
        self.types += struct.pack("=III", self.string(name), kind << 24 | len(elements), 4)
        for text, *numbers in elements:
            self.types += struct.pack("=I", self.string(str(text)))
            self.types += b"".join(struct.pack("=I", int(one) & 0xFFFFFFFF) for one in numbers)
        self.types += extra
        self.count += 1
        return self.count

    def data(self) -> bytes:
        sizes = (0, len(self.types), len(self.types), len(self.strings))
        return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, *sizes) + self.types + self.strings


@pytest.fixture
def types() -> Types:
    made = Types()
    number = made.add(INT, "int", extra=bytes(4))
    inner = made.add(STRUCT, "", ("deep", number, 32))
    union = made.add(UNION, "", ("either", number, 0), ("", inner, 64))
    made.add(STRUCT, "packet", ("first", number, 0), ("", union, 128), ("last", number, 512))
    made.add(ENUM, "reason", ("NONE", 0), ("BAD", 7))
    made.add(ENUM64, "wide", ("HUGE", 5, 1))
    return made


def test_members_also_of_anonymous_members(types: Types) -> None:
    read = btf.Btf(types.data(), ["packet", "absent"])
    found = {name: read.offset("packet", name) for name in ("first", "either", "deep", "last")}
    assert found == {"first": 0, "either": 16, "deep": 28, "last": 64}
    with pytest.raises(btf.BtfError, match="struct packet has no other"):
        read.offset("packet", "other")
    with pytest.raises(btf.BtfError, match="does not describe absent"):
        read.offset("absent", "first")


def test_enumerations(types: Types) -> None:
    read = btf.Btf(types.data(), ["reason", "wide"])
    assert read.values("reason") == {0: "NONE", 7: "BAD"}
    assert read.values("wide") == {5: "HUGE"}


def ask(data: bytes) -> None:
    """What damage may do: give other answers, or BtfError; nothing else."""
    try:
        read = btf.Btf(data, ["packet", "reason", "wide"])
    except btf.BtfError:
        return
    for question in (
        lambda: read.offset("packet", "deep"),
        lambda: read.values("reason"),
        lambda: read.values("wide"),
    ):
        try:
            question()
        except btf.BtfError:
            continue


def test_damaged_type_data(types: Types) -> None:
    data = types.data()
    for end in range(len(data)):
        ask(data[:end])
    chance = random.Random(1)  # noqa: S311 (damage, not a secret)
    for _ in range(3000):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(data))] = chance.choice((0, 1, 4, 0x7F, 0xFF))
        ask(bytes(damaged))


def test_a_struct_within_itself_ends() -> None:
    made = Types()
    made.add(STRUCT, "packet", ("", 1, 0), ("", 1, 0), ("x", 1, 0))
    with pytest.raises(btf.BtfError):
        btf.Btf(made.data(), ["packet"]).offset("packet", "deep")


def test_no_type_data(tmp_path: Path) -> None:
    with pytest.raises(btf.BtfError, match="CONFIG_DEBUG_INFO_BTF"):
        btf.read(["packet"], tmp_path / "vmlinux")


def symbols(tmp_path: Path, text: bytes) -> Path:
    path = tmp_path / "kallsyms"
    path.write_bytes(text)
    return path


def test_functions_around_addresses(tmp_path: Path) -> None:
    table = (
        b"ffffffff81000000 T _stext\n"
        b"ffffffff81000100 t ip_rcv_core.isra.0\n"
        b"ffffffff81000180 d some_data\n"
        b"\xff\xfe not a line\n\nffffffff8100zzzz T odd\n"
        b"ffffffffc0000000 t nft_do_chain\t[nf_tables]\n"
    )
    asked = {0xFFFFFFFF81000190, 0xFFFFFFFFC0000004, 0x10}
    assert kallsyms.functions(asked, symbols(tmp_path, table)) == {
        0xFFFFFFFF81000190: "ip_rcv_core",
        0xFFFFFFFFC0000004: "nft_do_chain",
    }


def test_hidden_symbols(tmp_path: Path) -> None:
    hidden = symbols(tmp_path, b"0000000000000000 T ip_rcv\n")
    assert kallsyms.functions({0xFFFFFFFF81000190}, hidden) == {}
    assert kallsyms.functions({1}, tmp_path / "absent") == {}


FORMAT = """name: kfree_skb
ID: 2310
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:__u8 saddr[28];\toffset:18;\tsize:28;\tsigned:0;
\tfield:__data_loc char[] name;\toffset:20;\tsize:4;\tsigned:0;

print fmt: "%s", __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 0x10, "IP_RPFILTER" })
"""


def test_format_of_an_event() -> None:
    event = tracefs.parse_format(FORMAT)
    assert event.number == 2310
    assert event.fields == {
        "common_type": (0, 2),
        "skbaddr": (8, 8),
        "saddr": (18, 28),
        "name": (20, 4),
    }
    assert event.symbols == {2: "NOT_SPECIFIED", 16: "IP_RPFILTER"}


@pytest.mark.parametrize("text", ["", "ID: x\n", "ID: 99999999999999999999\n", "field:;\n"])
def test_an_odd_format(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        tracefs.parse_format(text)
    assert tracefs.parse_format(f"ID: 1\n\tfield:;\toffset:0;\tsize:0;\n{text}").number == 1
