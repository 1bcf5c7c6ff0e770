"""The kernel's counters of this network namespace (proc(5)) as one flat table of numbers.

Names are those of the files: `Ip.InReceives` and `IpExt.InMcastPkts` (net/snmp, net/netstat),
`Ip6InReceives` (net/snmp6), `dev.IF.rx_packets` (net/dev), `XfrmInPolBlock` (net/xfrm_stat).
Needs no privilege. Linux only; elsewhere the table is empty.
"""

from mcastctl.host import procnet

_WANTED = ("Ip", "IpExt", "TcpExt", "Udp", "UdpLite", "Icmp")
_DEVICE = (
    *("rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "rx_fifo", "rx_frame"),
    *("rx_compressed", "rx_multicast", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"),
)


def read() -> dict[str, int]:
    """Return every counter by name."""
    found = paired(procnet.read("snmp")) | paired(procnet.read("netstat"))
    found |= listed(procnet.read("snmp6")) | listed(procnet.read("xfrm_stat"))
    return found | devices(procnet.read("dev"))


def paired(text: str) -> dict[str, int]:
    """Return the counters of lines that come in pairs: names, then values."""
    lines = [line.partition(":") for line in text.split("\n")]
    found = {}
    for (head, _, names), (again, _, values) in zip(lines[::2], lines[1::2], strict=False):
        if head != again or head not in _WANTED:
            continue
        for name, value in zip(names.split(), values.split(), strict=False):
            if (number := _number(value)) is not None:
                found[f"{head}.{name}"] = number
    return found


def listed(text: str) -> dict[str, int]:
    """Return the counters of lines with a name and a value."""
    pairs = (line.split() for line in text.split("\n"))
    numbers = {one[0]: _number(one[1]) for one in pairs if len(one) == 2}
    return {name: number for name, number in numbers.items() if number is not None}


def devices(text: str) -> dict[str, int]:
    """Return the counters of /proc/net/dev as `dev.IF.rx_packets`."""
    found = {}
    for line in text.split("\n")[2:]:
        name, _, values = line.rpartition(":")
        for key, value in zip(_DEVICE, values.split(), strict=False):
            if (number := _number(value)) is not None:
                found[f"dev.{name.strip()}.{key}"] = number
    return found


def _number(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 21 else None
