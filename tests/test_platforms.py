"""Option numbers and struct layouts of the three systems, as their headers have them."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from mcastctl.model import refusal, surroundings
from mcastctl.net import ancillary, platforms, sockopts, whereabouts
from mcastctl.net.platforms import DARWIN, LINUX, WINDOWS, Platform

Call = tuple[int, int, bytes | int]

# system: (offset of the group, size of group_req, size of group_source_req, AF_INET6)
LAYOUTS = [
    pytest.param(LINUX, struct.calcsize("@P"), 10, id="linux"),
    pytest.param(DARWIN, 4, 30, id="darwin"),
    pytest.param(WINDOWS, 8, 23, id="win32"),
]


class Recorder:
    """Stands for a socket of a system that is not this one."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def setsockopt(self, level: int, option: int, value: bytes | int) -> None:
        self.calls.append((level, option, value))


def on(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the socket layer believe it runs there; returns the socket."""
    monkeypatch.setattr(sockopts, "HERE", platform)
    return Recorder()


def native(number: int, size: int) -> bytes:
    return number.to_bytes(size, sys.byteorder)


@pytest.mark.parametrize(("platform", "offset", "af_inet6"), LAYOUTS)
def test_group_req(platform: Platform, offset: int, af_inet6: int) -> None:
    request = sockopts.pack_group_req(0x01020304, "239.1.2.3", platform=platform)
    assert len(request) == offset + 128
    assert request[:4] == native(0x01020304, 4)
    assert request[4:offset] == bytes(offset - 4)
    length = platform is DARWIN
    assert request[offset : offset + 2] == (b"\x10\x02" if length else native(2, 2))
    assert request[offset + 2 : offset + 4] == b"\0\0"  # no port
    assert request[offset + 4 : offset + 8] == bytes([239, 1, 2, 3])
    assert request[offset + 8 :] == bytes(120)

    request = sockopts.pack_group_req(7, "ff15::42", platform=platform)
    assert len(request) == offset + 128
    assert request[:4] == native(7, 4)
    family = bytes([28, af_inet6]) if length else native(af_inet6, 2)
    assert request[offset : offset + 2] == family
    assert request[offset + 2 : offset + 8] == bytes(6)  # port and flow label
    assert request[offset + 8 : offset + 24] == bytes.fromhex("ff15" + "00" * 12 + "0042")
    assert request[offset + 24 :] == bytes(104)  # scope id and the rest of the storage


@pytest.mark.parametrize(("platform", "offset", "af_inet6"), LAYOUTS)
def test_group_source_req(platform: Platform, offset: int, af_inet6: int) -> None:
    request = sockopts.pack_group_req(3, "232.1.1.1", "192.0.2.9", platform)
    assert len(request) == offset + 256
    assert request[: offset + 128] == sockopts.pack_group_req(3, "232.1.1.1", platform=platform)
    assert request[offset + 128 :] == sockopts.pack_sockaddr("192.0.2.9", platform)
    request = sockopts.pack_group_req(3, "ff35::1", "2001:db8::9", platform)
    source = request[offset + 128 :]
    assert source[8:24] == socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    assert source[2:8] == bytes(6)


@pytest.mark.skipif(sys.platform != "linux", reason="the structs of Linux")
def test_the_layout_a_compiler_gives_on_linux() -> None:
    class Storage(ctypes.Structure):
        """struct sockaddr_storage, aligned like a pointer."""

        _fields_ = (
            ("family", ctypes.c_ushort),
            ("data", ctypes.c_char * 118),
            ("_", ctypes.c_ulong),
        )

    class GroupReq(ctypes.Structure):
        """struct group_req of <linux/in.h>."""

        _fields_ = (("interface", ctypes.c_uint32), ("group", Storage))

    class GroupSourceReq(ctypes.Structure):
        """struct group_source_req of <linux/in.h>."""

        _fields_ = (("interface", ctypes.c_uint32), ("group", Storage), ("source", Storage))

    assert platforms.HERE is LINUX
    assert LINUX.group_offset == GroupReq.group.offset
    assert len(sockopts.pack_group_req(1, "239.1.1.1")) == ctypes.sizeof(GroupReq)
    both = sockopts.pack_group_req(1, "ff35::1", "::1")
    assert len(both) == ctypes.sizeof(GroupSourceReq)


@pytest.mark.parametrize(
    ("platform", "numbers"),
    [
        (LINUX, (42, 43, 46)),
        (DARWIN, (80, 84, 82)),
        (WINDOWS, (41, 43, 45)),
    ],
    ids=lambda value: value.name if isinstance(value, Platform) else "",
)
def test_membership_options(
    platform: Platform, numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = on(platform, monkeypatch)
    sockopts.join(sock, "239.1.1.1", 5)
    sockopts.block(sock, "ff15::1", 5, "2001:db8::1")
    sockopts.join(sock, "ff35::1", 5, "2001:db8::1")
    levels = [level for level, _, _ in sock.calls]
    ip4, ip6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
    assert levels == [ip4, ip6, ip6]
    assert tuple(option for _, option, _ in sock.calls) == numbers


def test_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform in (LINUX, DARWIN):
        sock = on(platform, monkeypatch)
        sockopts.set_egress(sock, 4, 7)
        # struct ip_mreqn: two addresses and the index
        assert sock.calls == [(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + native(7, 4))]
    sock = on(WINDOWS, monkeypatch)
    sockopts.set_egress(sock, 4, 7)
    sockopts.set_egress(sock, 6, 7)
    assert sock.calls == [
        (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, b"\0\0\0\7"),
        (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, 7),
    ]


def test_sharing_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux SO_REUSEPORT would spread datagrams over listeners; macOS needs it to share."""
    reuse = (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for platform, expected in (
        (LINUX, [reuse]),
        (DARWIN, [reuse, (socket.SOL_SOCKET, 0x200, 1)]),
        (WINDOWS, [reuse]),
    ):
        sock = on(platform, monkeypatch)
        sockopts.share_port(sock)
        assert sock.calls == expected


def test_what_a_system_lacks_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform in (DARWIN, WINDOWS):
        sock = on(platform, monkeypatch)
        for version in (4, 6):
            sockopts.hear_only_own_groups(sock, version)
            sockopts.report_errors(sock, version)
        assert sock.calls == []
        assert sockopts.kernel_drops(sock) == 0
    sock = on(WINDOWS, monkeypatch)
    monkeypatch.setattr(ancillary, "HERE", WINDOWS)
    ancillary.request(sock, 4)
    ancillary.request(sock, 6)
    assert sock.calls == []
    assert (LINUX.binds_to_group, DARWIN.binds_to_group, WINDOWS.binds_to_group) == (
        True,
        True,
        False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers of Linux")
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("AF_INET6", LINUX.af_inet6),
        ("IPV6_RECVPKTINFO", LINUX.ipv6_recvpktinfo),
        ("IPV6_PKTINFO", LINUX.ipv6_pktinfo),
        ("IPV6_RECVHOPLIMIT", LINUX.ipv6_recvhoplimit),
        ("IPV6_HOPLIMIT", LINUX.ipv6_hoplimit),
        ("IPV6_RECVTCLASS", LINUX.ipv6_recvtclass),
        ("IPV6_TCLASS", LINUX.ipv6_tclass),
        ("IP_RECVTOS", LINUX.ip_recvtos),
        ("IP_TTL", LINUX.ip_ttl_messages[0]),
        ("IP_TOS", LINUX.ip_tos_messages[0]),
    ],
)
def test_numbers_the_socket_module_knows(name: str, number: int) -> None:
    assert getattr(socket, name) == number


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_numbers_the_kernel_knows() -> None:
    """Each option takes what it was given and gives it back."""
    for version, level, numbers in (
        (
            socket.AF_INET,
            socket.IPPROTO_IP,
            (LINUX.ip_multicast_all, LINUX.ip_recverr, LINUX.ip_pktinfo, LINUX.ip_recvttl),
        ),
        (socket.AF_INET6, socket.IPPROTO_IPV6, (LINUX.ipv6_multicast_all, LINUX.ipv6_recverr)),
    ):
        with socket.socket(version, socket.SOCK_DGRAM) as sock:
            for number in (*numbers,):
                assert number is not None
                for value in (1, 0, 1):
                    sock.setsockopt(level, number, value)
                    assert sock.getsockopt(level, number) == value


# --- refusals


@pytest.mark.parametrize(
    ("system", "operation", "number", "cause", "hint"),
    [
        ("win32", "bind", 10049, "cannot assign requested address (WSAEADDRNOTAVAIL)", "never to"),
        ("win32", "bind", 10013, "permission denied (WSAEACCES)", "excludedportrange"),
        ("win32", "bind", 10048, "address already in use (WSAEADDRINUSE)", "another"),
        ("win32", "send", 10051, "network is unreachable (WSAENETUNREACH)", "-i IFACE"),
        ("win32", "send", 10055, "no buffer space available (WSAENOBUFS)", "--pps"),
        ("darwin", "send", errno.EHOSTUNREACH, "(EHOSTUNREACH)", "Local Network"),
        ("linux", "send", errno.EHOSTUNREACH, "(EHOSTUNREACH)", "a route calls"),
        ("wsl", "join", errno.ENODEV, "no such device (ENODEV)", "networkingMode=mirrored"),
        ("linux", "join", errno.ENODEV, "no such device (ENODEV)", "-i"),
    ],
)
def test_a_refusal_means_what_it_means_there(
    system: str, operation: str, number: int, cause: str, hint: str
) -> None:
    assert refusal.cause(number, os.strerror(surroundings.standard(number) or 0)).endswith(cause)
    assert hint in refusal.remedy(operation, number, system)


def test_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "osrelease"
    release.write_text("5.15.167.4-microsoft-standard-WSL2\n")
    monkeypatch.setattr(whereabouts, "HERE", LINUX)
    assert whereabouts.surroundings(str(release)) == "wsl"
    release.write_text("6.18.0-1-amd64\n")
    assert whereabouts.surroundings(str(release)) == "linux"
    assert whereabouts.surroundings(str(tmp_path / "none")) == "linux"
    monkeypatch.setattr(whereabouts, "HERE", WINDOWS)
    assert whereabouts.surroundings(str(release)) == "win32"
