"""Traffic control and BPF programs of others: read as the kernel has them, named as evidence."""

from __future__ import annotations

import json
import struct
import sys
from subprocess import PIPE

import pytest
from conftest import Pair
from faults import ANY, EAR, GROUP, PORT, REUSE, Surgery, answer, doctor, ear, voice
from place import BY_ROOT, ROOT
from world import Host, need

from mcastctl.host import netlink, trafficcontrol

TARGET = f"{GROUP}:{PORT}"

HOLD = r"""
import ctypes, os, signal, socket, struct, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # tidy up after a failed test, too
from mcastctl.host import mounts, syscall
def bpf(command, form, *values):
    attribute = ctypes.create_string_buffer(struct.pack(form, *values), 128)
    return syscall.call("bpf", command, attribute, 128)
def load(kind, attach, verdict):
    code = struct.pack("=BBhi", 0xB7, 0, 0, verdict) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    return bpf(5, "=IIQQIIQII16sII", kind, len(code) // 8, ctypes.addressof(text),
               ctypes.addressof(licence), 0, 0, 0, 0, 0, b"of_the_tests", 0, attach)
if sys.argv[1] == "tcx":
    link = bpf(28, "=IIII", load(3, 46, 2), socket.if_nametoindex(sys.argv[2]), 46, 0)
    print("begun", flush=True)
    sys.stdin.read()
else:
    with mounts.detached("cgroup2") as root:
        group = root / sys.argv[2]
        group.mkdir()
        try:
            (group / "cgroup.procs").write_text(sys.argv[3])
            descriptor = os.open(group, os.O_RDONLY)
            link = bpf(28, "=IIII", load(8, 0, 0), descriptor, 0, 0)
            print("begun", flush=True)
            sys.stdin.read()
        finally:
            (root / "cgroup.procs").write_text(sys.argv[3])
            os.close(link)
            os.close(descriptor)
            group.rmdir()
"""


def message(*attributes: bytes, index: int = 2, info: int = 7 << 16) -> bytes:
    return bytes(16) + struct.pack("=BxxxiIII", 0, index, 0, 0, info) + b"".join(attributes)


def action(kind: bytes, parameters: int, value: bytes) -> bytes:
    options = netlink.attribute(2, netlink.attribute(parameters, value))
    counts = netlink.attribute(1, struct.pack("=QI4x", 600, 6))
    return netlink.attribute(
        1, netlink.attribute(1, kind + b"\0") + options + netlink.attribute(4, counts)
    )


@pytest.mark.parametrize(
    ("made", "verdict", "takes"),
    [
        (action(b"gact", 2, struct.pack("=IIiii", 1, 0, 2, 1, 1)), "drop", True),
        (action(b"gact", 2, struct.pack("=IIiii", 1, 0, 0, 1, 1)), "ok", False),
        (action(b"gact", 2, b"short"), "gact", False),
        (action(b"police", 1, struct.pack("=Iiiii", 1, 2, 0, 0, 0)), "drop above the rate", True),
        (
            action(b"mirred", 2, struct.pack("=IIiiiII", 1, 0, 4, 1, 1, 1, 3)),
            "redirect to index 3",
            True,
        ),
        (
            action(b"mirred", 2, struct.pack("=IIiiiII", 1, 0, 3, 1, 1, 2, 3)),
            "mirror to index 3",
            False,
        ),
    ],
)
def test_what_an_action_does(made: bytes, verdict: str, takes: bool) -> None:
    """Layouts of <linux/tc_act/>; this kernel need not have the modules."""
    options = netlink.attribute(2, netlink.attribute(7, made))
    found = trafficcontrol.filter_(
        message(netlink.attribute(1, b"u32\0"), options), parent=0xFFFFFFF2
    )
    assert found is not None
    assert (found.ifindex, found.direction, found.kind, found.preference) == (
        2,
        "ingress",
        "u32",
        7,
    )
    (one,) = found.actions
    assert (one.verdict, one.takes, one.packets) == (verdict, takes, 6)


def test_damaged_messages_are_passed_over() -> None:
    whole = message(netlink.attribute(1, b"u32\0"), netlink.attribute(2, b"\xff" * 40))
    for end in range(len(whole)):
        trafficcontrol.filter_(whole[:end], 0xFFFFFFF2)
        trafficcontrol.qdisc(whole[:end])


def findings(host: Host, *args: str, privileged: bool = True) -> tuple[str, str]:
    """The answer, and its evidence as one text."""
    found = doctor(host, TARGET, *args, privileged=privileged)
    return answer(found), "\n".join(found[0]["evidence"])


def test_a_filter_that_redirects(pair: Pair) -> None:
    need("tc")
    pair.b.ip("link add b9 type veth peer name b8", "link set b9 up", "link set b8 up")
    pair.b.sh(
        "tc qdisc add dev b0 clsact; tc filter add dev b0 ingress pref 11 protocol ip"
        " u32 match ip protocol 17 0xff action mirred egress redirect dev b9"
    )
    ear(pair.b)
    voice(pair.a)
    ident, evidence = findings(pair.b, "-i", "b0")
    assert ident == "host.tc_drop"
    assert "tc filter b0 ingress pref 11: u32 mirred redirect to b9 (saw " in evidence
    # Nobody needs root for what tc shows anybody.
    assert findings(pair.b, "-i", "b0", privileged=False)[0] == "host.tc_drop"


def test_a_filter_that_drops(pair: Pair) -> None:
    need("tc")
    pair.b.sh(
        "tc qdisc add dev b0 clsact; tc filter add dev b0 ingress bpf da bytecode '1,6 0 0 2'"
    )
    ear(pair.b)
    voice(pair.a)
    ident, evidence = findings(pair.b, "-i", "b0")
    assert ident == "host.tc_drop"
    assert "tc filter b0 ingress pref " in evidence


def test_losses_of_a_queue_are_seen_by_anybody(pair: Pair) -> None:
    need("tc")
    pair.a.sh("tc qdisc add dev a0 root handle 7: tbf rate 64kbit burst 1600 limit 3000")
    voice(pair.a, size=1000)
    ident, evidence = findings(pair.a, "-i", "a0", "--role", "sender", privileged=False)
    assert ident == "tx.qdisc_drop"
    assert "qdisc tbf 7: root: drops +" in evidence


@pytest.mark.skipif(not ROOT, reason=BY_ROOT)
@pytest.mark.parametrize(
    ("hook", "cause", "said"),
    [
        ("tcx", "host.tc_drop", "tcx ingress of b0: BPF program of_the_tests, id "),
        ("cgroup", "host.cgroup_bpf", "cgroup ingress of /mcastctl-test-"),
    ],
)
def test_a_program_is_named(pair: Pair, hook: str, cause: str, said: str) -> None:
    hearing = pair.b.popen([sys.executable, "-c", EAR], stdin=PIPE)
    place = "b0" if hook == "tcx" else f"mcastctl-test-{hearing.pid}"
    outside = Surgery(pair.b)
    try:
        holder = outside.popen(
            [sys.executable, "-c", HOLD, hook, place, str(hearing.pid)], stdin=PIPE
        )
        holder.wait_stdout("^begun$", timeout=20)
        told = {"version": 4, "bind": ANY, "port": PORT, "joins": [(GROUP, "b0", "")]}
        told |= {"options": [REUSE], "device": "", "refuse": False, "connect": "", "reads": 0.001}
        hearing.write(json.dumps(told) + "\n")  # a socket belongs to where it was made
        hearing.wait_stdout("^begun$", timeout=20)
        voice(pair.a)
        ident, evidence = findings(pair.b, "-i", "b0")
        assert ident == cause
        assert said in evidence
        assert holder.finish().returncode == 0
    finally:
        outside.stop()
