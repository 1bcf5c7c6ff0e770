"""What a streaming command printed, held against schema.json and taken apart; and a sender that
puts exactly the bytes on the wire that a test wrote.

`check_schema` takes records of any command; `Stream.of` those of a command that starts with
`start` and ends with `summary`.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from world import Host, Outcome

Json = dict[str, Any]

# argv: group, port, interface index, source port, seconds between two, TTL; hex payloads on stdin
INJECT = """
import socket, struct, sys, time
group, port, index, sport, gap, ttl = sys.argv[1], *map(float, sys.argv[2:])
payloads = [bytes.fromhex(line) for line in sys.stdin]
version6 = ":" in group
sock = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("::" if version6 else "0.0.0.0", int(sport)))
if version6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, int(index))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, int(ttl))
    where = group, int(port), 0, int(index) if group.startswith("ff02") else 0
else:
    request = struct.pack("@4s4si", b"", b"", int(index))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, int(ttl))
    where = group, int(port)
for payload in payloads:
    sock.sendto(payload, where)
    time.sleep(gap)
"""


@functools.cache
def _validator() -> Any:
    import jsonschema

    schema = json.loads((Path(__file__).parent / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_schema(records: Iterable[Mapping[str, Any]]) -> None:
    """Fail unless every record is as schema.json says; names the record and what is wrong."""
    for number, record in enumerate(records, start=1):
        wrong = [
            f"{error.json_path}: {error.message}" for error in _validator().iter_errors(record)
        ]
        assert not wrong, f"record {number}: {'; '.join(wrong)}\n{json.dumps(record)}"


def check_all_heard(summary: Json, sent: int) -> None:
    """Fail unless each of so many probes of one stream was heard, once and in order."""
    (stream,) = summary["streams"]
    assert (stream["packets"], stream["lost"], summary["kernel_drops"]) == (sent, 0, 0)
    assert (stream["first_seq"], stream["last_seq"]) == (0, sent - 1)
    assert (stream["duplicates"], stream["reordered"]) == (0, 0)


class Stream(NamedTuple):
    """The records of one run, in order; `status` is the exit status (or minus the signal)."""

    records: list[Json]
    status: int

    @classmethod
    def of(cls, outcome: Outcome) -> Stream:
        """Read JSON lines: start first, summary last, both once, all of them as in the schema."""
        records = outcome.records
        check_schema(records)
        assert "Traceback" not in outcome.stderr
        kinds = [record["type"] for record in records]
        assert kinds[:1] == ["start"], outcome
        assert kinds[-1] == "summary"
        assert kinds.count("start") == kinds.count("summary") == 1
        status = outcome.returncode
        assert records[-1]["exit_status"] == (status if status >= 0 else 128 - status)
        return cls(records, status)

    def all(self, kind: str) -> list[Json]:
        """Every record of one type."""
        return [record for record in self.records if record["type"] == kind]

    @property
    def summary(self) -> Json:
        """The last line."""
        return self.records[-1]

    @property
    def datagrams(self) -> list[Json]:
        """Every datagram."""
        return self.all("datagram")

    @property
    def payloads(self) -> list[str]:
        """What the datagrams carried, each printable."""
        return [datagram["payload"] for datagram in self.datagrams]

    def only(self, kind: str) -> Json:
        """The one record of this type."""
        (record,) = self.all(kind)
        return record


def inject(
    host: Host,
    group: str,
    payloads: Sequence[bytes],
    *,
    port: int = 5004,
    sport: int = 0,
    gap_s: float = 0,
    ttl: int = 1,
    ifname: str | None = None,
) -> None:
    """Send datagrams from a host without any help of ours, in this order."""
    lines = "".join(f"{payload.hex()}\n" for payload in payloads)
    numbers = map(str, (port, host.ifindex(ifname), sport, gap_s, ttl))
    host.run([sys.executable, "-c", INJECT, group, *numbers], input=lines)
