"""Reports to lines for people: intervals, streams, totals, responders."""

from collections.abc import Mapping
from typing import Any

from mcastctl.model.address import host_port
from mcastctl.model.mark import UNNUMBERED
from mcastctl.output.escape import escape
from mcastctl.output.text import scaled

Fields = Mapping[str, Any]

_SOME = 100
"""From so many datagrams on a rate means something, however short the run was."""
MOST = 20
"""Streams that a summary for people lists, the busiest first."""


def interval(fields: Fields) -> str:
    """Return one line for an interval report."""
    jitter = max((stream["jitter_ms"] for stream in fields["streams"]), default=0.0)
    shown = f", jitter {jitter:.3f} ms" if jitter else ""
    span = f"{fields['start_s']:.1f}-{fields['end_s']:.1f} s"
    return f"{span}: {_amount(fields)}, {_rates(fields)}{_quality(fields)}{shown}"


def summary(fields: Fields, *, listed: bool = True, explained: bool = False) -> list[str]:
    """Return the lines that end a run, `listed` with one for each stream and responder.

    `explained` says that what silence means was told before.
    """
    streams = sorted(fields.get("streams", ()), key=lambda one: -one["packets"])
    streams = streams if listed else []
    lines = [stream(one) for one in streams[:MOST]]
    if len(streams) > MOST:
        lines.append(f"and {counted(len(streams) - MOST, 'stream')} more; -j shows all")
    if fields.get("streams_evicted"):
        lines.append(
            f"{counted(fields['streams_evicted'], 'quiet stream')} made room for others and are "
            "only in the totals"
        )
    for responder in fields.get("responders", ()) if listed else ():
        lines += _responder(responder)
    if "responders" in fields:
        lines.append(_asked(fields))
    elif "attempted" in fields:
        lines.append(_sent(fields))
    elif "replies_sent" in fields:
        lines.append(_answered(fields))
    else:
        lines += [*_heard(fields, explained=explained), *_messages(fields)]
    if fields["reason"] in ("signal", "quit"):
        return lines  # who interrupts has seen enough
    lines += [f"not met: {escape(reason)}" for reason in fields.get("unmet", ())]
    return [*lines, *_advice(fields)] if fields.get("unmet") else lines


def _advice(fields: Fields) -> list[str]:
    """Return what the answers to a ping suggest."""
    if "responders" not in fields:
        return []
    silent = [one for one in fields["responders"] if not one["multicast"]["received"]]
    routers = max((one["unicast"]["hops"] or 0 for one in silent), default=0)
    if routers:
        return [
            f"hint: unicast is answered over {counted(routers, 'router')}, the group is not: its "
            f"TTL must exceed {routers} (-t), and each must route multicast ('mcastctl routes "
            "--forwarding' there)"
        ]
    if any(one["unicast"]["received"] for one in silent):
        return [
            "hint: unicast is answered, the group is not: look at IGMP snooping on the switch and "
            "at the responder's firewall ('nft list ruleset')"
        ]
    if any(one["unicast"]["unreachable"] for one in silent):
        return ["hint: the host is up, but nothing answers there: run 'mcastctl echo' on it"]
    if not fields["responders"]:
        return [
            "hint: who should answer runs 'mcastctl echo'; name one with --expect-from ADDR and it "
            "is asked by unicast too"
        ]
    return []


def _heard(fields: Fields, *, explained: bool) -> list[str]:
    if fields["packets"]:
        return [
            f"heard {_amount(fields)} in {fields['elapsed_s']:.1f} s"
            f"{_quality(fields)}{_drops(fields)}{deaf(fields)}{_written(fields)}{_ended(fields)}"
        ]
    line = f"heard nothing in {fields['elapsed_s']:.1f} s{_drops(fields)}{deaf(fields)}"
    if explained or not fields["exit_status"]:  # status 0: nothing was expected
        return [line]
    return [
        line,
        "hint: check the sender's interface and TTL, then this host's firewall and rp_filter "
        "('mcastctl ifaces'); 'mcastctl ping' and 'echo' tell whether unicast fares better",
    ]


def _amount(fields: Fields) -> str:
    return f"{counted(fields['packets'], 'datagram')}, {counted(fields['bytes'], 'byte')}"


def _ended(fields: Fields) -> str:
    return "; ended by silence" if fields["reason"] == "idle" else ""


def _messages(fields: Fields) -> list[str]:
    """Return how many messages came whole, nothing where nobody put them together."""
    if "messages" not in fields:
        return []
    counts = fields["messages"]
    line = f"{counted(counts['whole'], 'message')} whole, {counts['incomplete']} not"
    if counts["evicted"]:
        line += f" ({counts['evicted']} made room for others)"
    rest = {"parts came again": "duplicate_parts", "of older messages": "stale_parts"}
    rest |= {"parts without room": "refused_parts", "datagrams were no parts": "others"}
    told = [f"{counts[key]} {what}" for what, key in rest.items() if counts[key]]
    return ["; ".join([line, *told])]


def _written(fields: Fields) -> str:
    return f"; wrote {fields['written']}" if "written" in fields else ""


def counted(number: int, noun: str) -> str:
    """Return '1 host' or '2 hosts'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _rates(fields: Fields) -> str:
    return f"{scaled(fields['packets_per_s'], '/s')}, {scaled(fields['bits_per_s'], 'bit/s')}"


def _quality(fields: Fields) -> str:
    if fields["streams"] and all(one["kind"] in UNNUMBERED for one in fields["streams"]):
        return ", loss unknown"
    percent = ""
    if fields["lost"]:
        whole = fields["packets"] + fields["lost"] - fields["duplicates"]
        percent = f" ({100 * fields['lost'] / whole:.2g} %)" if whole > 0 else ""
    return (
        f", lost {fields['lost']}{percent}, duplicates {fields['duplicates']}, "
        f"reordered {fields['reordered']}"
    )


def _drops(fields: Fields) -> str:
    drops = fields.get("kernel_drops", 0)
    return f"; dropped by this host's full socket buffer {drops}" if drops else ""


def deaf(fields: Fields) -> str:
    """Return how long something could not be heard at all, '' for never."""
    seconds = fields.get("deaf_s", 0)
    return f"; deaf for {seconds:.3f} s" if seconds else ""


def stream(one: Fields) -> str:
    """Return one line for a stream: who, where, how much, what was lost."""
    rate = f", {scaled(one['packets_per_s'], '/s')}" if one["packets_per_s"] else ""
    head = (
        f"{host_port(one['src'], one['sport'])} > "
        f"{host_port(one['dst'], one['dport'])} on {escape(one['iface'])}: "
        f"{_amount(one)}{rate}"
    )
    several = one["packets"] > 1  # one alone has neither gap nor jitter
    gap = f", largest gap {one['max_gap_ms']:.1f} ms" if several else ""
    if one["kind"] in UNNUMBERED:
        return f"{head}{gap}, no sequence numbers"
    unit = " transport packets" if one["kind"] == "mpegts" else ""
    percent = f" ({one['loss_percent']:.2g} %)" if one["lost"] else ""
    known = several and one["kind"] != "mpegts"
    jitter = f", jitter {one['jitter_ms']:.3f} ms" if known else ""
    return (
        f"{head}, {one['kind']}, lost {one['lost']}{unit}{percent}, duplicates "
        f"{one['duplicates']}, reordered {one['reordered']}{jitter}{gap}"
    )


def _asked(fields: Fields) -> str:
    hosts = sum(1 for one in fields["responders"] if one["multicast"]["received"])
    asked = counted(fields["requests"], "time")
    line = f"asked {asked}, {counted(hosts, 'host')} answered"
    silent = [one for one in fields["responders"] if not one["multicast"]["received"]]
    if alone := sum(1 for one in silent if one["unicast"]["received"]):
        line += f", {alone} by unicast only"
    if fields["responders_refused"]:
        line += f"; {counted(fields['responders_refused'], 'answer')} of yet more hosts not counted"
    if fields["refused"]:
        line += f"; refused {fields['refused']} {_errors(fields['errors'])}"
    return line


def _sent(fields: Fields) -> str:
    line = f"sent {_amount(fields)} in {fields['elapsed_s']:.1f} s"
    if fields["elapsed_s"] >= 1 or fields["packets"] >= _SOME:
        line += f", {_rates(fields)}"
    if fields["largest_burst"] > 1:
        line += f" in bursts of up to {fields['largest_burst']}, one time stamp each"
    if fields["refused"]:
        line += f"; refused {fields['refused']} {_errors(fields['errors'])}"
    if fields["replies"]:
        line += f"; replies {fields['replies']}"
    if fields.get("cut"):
        line += f"; left out {counted(fields['cut'], 'datagram')} that the capture cut short"
    if "worst_late_ms" in fields:
        line += f"; late {fields['mean_late_ms']:.3f} ms mean, {fields['worst_late_ms']:.3f} worst"
    return line


def _errors(errors: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{name} {count}" for name, count in errors.items()) + ")"


def _answered(fields: Fields) -> str:
    ignored = sum(fields["ignored"].values())
    because = _errors(fields["ignored"]) if ignored else ""
    answered = counted(fields["replies_sent"], "request")
    line = f"answered {answered}, ignored {ignored} {because}".rstrip() + deaf(fields)
    failed = sum(fields["errors"].values())
    return f"{line}; answers refused {failed} {_errors(fields['errors'])}" if failed else line


def _responder(responder: Fields) -> list[str]:
    lines = [f"--- {escape(responder['responder'])}"]
    for kind in ("multicast", "unicast"):
        counted = responder.get(kind)
        if not counted or not counted["sent"]:
            continue
        line = (
            f"{kind:9} sent {counted['sent']}, received {counted['received']}, "
            f"loss {counted['loss_percent']:.4g} %"
        )
        if counted["duplicates"]:
            line += f", duplicates {counted['duplicates']}"
        if counted["received"]:
            line += (
                f", rtt min/avg/max/mdev {counted['rtt_min_ms']:.3f}/{counted['rtt_avg_ms']:.3f}/"
                f"{counted['rtt_max_ms']:.3f}/{counted['rtt_mdev_ms']:.3f} ms"
            )
        if counted["unreachable"]:
            line += f", port unreachable {counted['unreachable']}"
        if counted["hops"] is not None:
            line += f", hops {counted['hops']}"
        lines.append(line)
    return lines
