"""Control messages to a commentary: who asks, who joins and leaves, who is elected.

IGMP (RFC 9776), MLD (RFC 9777), PIM (RFC 7761), VRRP (RFC 9568). A message that changes
nothing is passed over in silence.
"""

from collections import OrderedDict
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple

from mcastctl.model.packet import Packet

PROTOCOLS = frozenset(("igmp", "mld", "pim", "vrrp"))
MAX_KNOWN = 16_384
"""Memberships, neighbours and masters remembered; the longest unheard makes room."""
_GENERAL = ("0.0.0.0", "::")  # noqa: S104 (the group of a general query)


class Event(NamedTuple):
    """Something that changed: a code for programs, words for people."""

    code: str
    text: str


class Querier(NamedTuple):
    """Who asks on a link, in which version, and when it last asked for everything.

    `patience_s` is how long others wait for it before they ask themselves.
    """

    address: str
    version: int
    asked_ns: int
    patience_s: float
    measured: bool = False


class Commentary:
    """What control messages have told so far, for each interface and VLAN apart.

    `forgotten` counts the memberships, neighbours and masters that made room for others.
    """

    def __init__(self) -> None:
        self.forgotten = 0
        self._known: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def update(self, packet: Packet) -> list[Event]:
        """Take one packet; return what it changes."""
        if packet.proto not in PROTOCOLS or "type" not in packet.fields:
            return []
        if packet.proto == "pim":
            return list(self._pim(packet))
        if packet.proto == "vrrp":
            return list(self._vrrp(packet))
        kind = packet.fields["type"]
        if kind == "query":
            return list(self._query(packet))
        if kind in ("report", "leave", "done"):
            return list(self._membership(packet))
        return [Event(f"{packet.proto}-{kind}", f"{packet.src}: {packet.info}")]

    def _changes(self, key: tuple[Any, ...], said: str) -> bool:
        """Tell whether something else was said before, or nothing; of long lists a hash is kept."""
        value = hash(said)
        return bool(self._remember(key, value) != value)

    def _remember(self, key: tuple[Any, ...], value: Any) -> Any:
        """Store a value; return the one before, None at first."""
        before = self._known.pop(key, None)
        self._known[key] = value
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
            self.forgotten += 1
        return before

    def _forget(self, key: tuple[Any, ...]) -> Any:
        return self._known.pop(key, None)

    def _query(self, packet: Packet) -> Iterator[Event]:
        fields = packet.fields
        if "group" not in fields:
            return
        version, group = fields["version"], fields["group"]
        name = f"{packet.proto.upper()}v{version}"
        within = f", answers within {fields['max_response_s']:g} s" if _timed(fields) else ""
        if group not in _GENERAL:
            sources = "".join(f"{source}@{group} " for source in fields.get("sources", ()))
            yield Event("query", f"{packet.src} asks who wants {sources or group} ({name}{within})")
            return
        place = ("querier", *_place(packet), packet.proto)
        before: Querier | None = self._known.get(place)
        interval = fields.get("query_interval_s")
        every = f", every {interval} s" if interval else ""
        now = Querier(str(packet.src), version, packet.ts_ns, _patience_s(fields))
        if before is None:
            yield Event("querier", f"{packet.src} is the querier: {name}{every}{within}")
        elif before.address != packet.src and packet.ts_ns - before.asked_ns > (
            before.patience_s * 1e9
        ):
            silent = f"silent for {(packet.ts_ns - before.asked_ns) / 1e9:.0f} s"
            words = f"{packet.src} takes over from {before.address}, {silent}"
            yield Event("election", f"{words}: {name}{every}{within}")
            for one in (before.address, packet.src):
                self._forget(("rival", *_place(packet), packet.proto, one))
        elif before.address != packet.src:
            yield from self._election(before, packet, f"{name}{every}{within}")
            if _lower(before.address, str(packet.src)):
                return  # the other goes on
        elif before.version != version:
            yield Event("version", f"querier {packet.src} now speaks {name}, not v{before.version}")
        elif not before.measured:
            apart = (packet.ts_ns - before.asked_ns) / 1e9
            yield Event("interval", f"querier {packet.src} asks every {apart:.1f} s ({name})")
            now = now._replace(measured=True)
        else:
            now = now._replace(measured=True)
        self._remember(place, now)

    def _election(self, before: Querier, packet: Packet, words: str) -> Iterator[Event]:
        """Tell of a second querier: the lower address wins (RFC 9776 section 6.6.2)."""
        if self._remember(("rival", *_place(packet), packet.proto, packet.src), True):
            return
        loses = _lower(before.address, str(packet.src))
        verb = "queries too but loses to" if loses else "is elected querier over"
        yield Event("election", f"{packet.src} {verb} {before.address}: {words}")

    def _membership(self, packet: Packet) -> Iterator[Event]:
        """Tell of joins and leaves; a report that repeats what is known says nothing."""
        fields = packet.fields
        name = f"{packet.proto.upper()}v{fields['version']}"
        if "group" in fields:
            mode = "to_in" if fields["type"] in ("leave", "done") else "is_ex"
            yield from self._record(packet, mode, fields["group"], [], name)
        for record in fields.get("records", ()):
            if record["group"] is None:
                continue  # cut off
            yield from self._record(
                packet, record["mode"], record["group"], record["sources"], name
            )

    def _record(
        self, packet: Packet, mode: str, group: str, sources: list[str], *name: str
    ) -> Iterator[Event]:
        key = ("member", *_place(packet), packet.src, group)
        listed = " ".join(sources)
        said = f"({name[0]})"
        if mode == "allow" or (mode in ("is_in", "to_in") and sources):
            if self._changes(key, f"{mode} {listed}"):
                wanted = " ".join(f"{source}@{group}" for source in sources)
                yield Event("join", f"{packet.src} joins {wanted} {said}")
        elif mode == "block":
            if self._changes(key, f"block {listed}"):
                yield Event("leave", f"{packet.src} wants no more {listed}@{group} {said}")
        elif mode == "to_in":
            if self._changes(key, "left"):  # reports come twice (RFC 9776 section 4.1)
                yield Event("leave", f"{packet.src} leaves {group} {said}")
        elif mode in ("is_ex", "to_ex"):
            without = f" without {listed}" if sources else ""
            if self._changes(key, f"ex {listed}"):
                yield Event("join", f"{packet.src} joins {group}{without} {said}")

    def _pim(self, packet: Packet) -> Iterator[Event]:
        fields = packet.fields
        if fields["type"] == "hello":
            yield from self._hello(packet)
        elif "upstream_neighbor" in fields:
            for entry in fields.get("groups", ()):
                for verb, code in (("joins", "pim-join"), ("prunes", "pim-prune")):
                    for one in entry.get(verb, ()):
                        source = "*" if "W" in one["flags"] else one["source"]
                        pair = (source, entry["group"])
                        if self._changes(("pim", *_place(packet), packet.src, *pair), verb):
                            yield Event(
                                code,
                                f"{packet.src} {verb} ({source}, {entry['group']}) "
                                f"at {fields['upstream_neighbor']}",
                            )
        else:
            key = ("said", *_place(packet), packet.src, fields["type"])
            if self._changes(key, packet.info):
                yield Event(f"pim-{fields['type']}", f"{packet.src}: {packet.info}")

    def _hello(self, packet: Packet) -> Iterator[Event]:
        """Tell of neighbours that come, restart and go (RFC 7761 section 4.3)."""
        fields = packet.fields
        key = ("neighbour", *_place(packet), packet.src)
        if fields.get("holdtime_s") == 0:
            self._forget(key)
            yield Event("pim-gone", f"{packet.src} is no PIM neighbour any more")
            return
        now = (fields.get("generation_id"), fields.get("dr_priority"))
        before = self._remember(key, now)
        if before is None:
            priority = f", DR priority {now[1]}" if now[1] is not None else ""
            hold = f" (holdtime {fields.get('holdtime_s', '?')} s{priority})"
            yield Event("pim-neighbour", f"{packet.src} is a PIM neighbour{hold}")
        elif before[0] != now[0]:
            yield Event("pim-restart", f"{packet.src} has restarted: new generation id")

    def _vrrp(self, packet: Packet) -> Iterator[Event]:
        """Tell who speaks for a virtual router."""
        fields = packet.fields
        if "vrid" not in fields or "priority" not in fields:
            return
        key = ("vrrp", *_place(packet), packet.family, fields["vrid"])
        name = f"VRID {fields['vrid']}"
        if fields["priority"] == 0:
            self._forget(key)
            yield Event("vrrp-resign", f"{packet.src} gives {name} up")
            return
        before = self._remember(key, packet.src)
        if before != packet.src:
            over = f" after {before}" if before else ""
            holds = " ".join(fields.get("addresses", ()))
            yield Event(
                "vrrp-master",
                f"{packet.src} is master of {name}{over} "
                f"(priority {fields['priority']}, holds {holds})",
            )


def _place(packet: Packet) -> tuple[str, ...]:
    return packet.iface, " ".join(packet.segment)


def _patience_s(fields: dict[str, Any]) -> float:
    """Return the Other Querier Present Interval (RFC 9776 section 8.5), by what a query says."""
    robustness = fields.get("robustness") or 2
    interval_s = fields.get("query_interval_s") or 125
    return float(robustness * interval_s + fields.get("max_response_s", 10) / 2)


def _timed(fields: dict[str, Any]) -> bool:
    return "max_response_s" in fields


def _lower(one: str, other: str) -> bool:
    return int(ip_address(one)) < int(ip_address(other))
