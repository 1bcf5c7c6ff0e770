"""`mcastctl send`: data to one or many groups."""

import os
import time
from typing import Any

import click

from mcastctl.cli import contradictions, messages, metrics, options, replay, run, views
from mcastctl.cli import params as p
from mcastctl.model.address import is_multicast
from mcastctl.model.endpoint import Endpoint, format_endpoint
from mcastctl.model.errors import COULD_NOT_ASK, NO, YES, AddressError, PayloadError
from mcastctl.net import nic, payloads, sender
from mcastctl.net.transmission import Pace, Transmission

EXAMPLES = """
echo hello | mcastctl send 239.1.1.1:5004        a line a datagram; replies are printed
mcastctl send 239.1.1.1:5004 hello -c 5          five times, one a second
mcastctl send '[ff15::42%eth0]:5004' hello       the zone names the interface
mcastctl send 239.1.1.1:5004 tick --interval 1s --bind :4000
mcastctl send 239.1.1.1:5004 --probe --pps 1k -s 1200 -T 10s -t 8
mcastctl send 239.1.1.1:5004 --file clip.ts -s 1316 -b 5M
mcastctl send 239.1.1.1:5004 --replay tv.pcapng --speed 2x
"""


@click.command(
    "send",
    cls=options.Command,
    examples=EXAMPLES,
    help="Send datagrams to a group: DATA, --probe, --file, --hex, or standard input.",
)
@click.argument("endpoint", type=p.ANY_ENDPOINT, nargs=1)
@click.argument("data", required=False)
@click.option("--file", type=p.FILE, help="Send a file ('-': stdin) in pieces of -s (1316).")
@click.option("--hex", "hex_data", type=p.HEX, help="Send these bytes.")
@click.option("--probe", is_flag=True, help="Send numbered, time-stamped datagrams of -s.")
@replay.options
@messages.sending
@click.option("--raw-stdin", is_flag=True, help="Standard input: a read a datagram.")
@click.option(
    "-s",
    "--size",
    type=p.whole("bytes", "size", 0, 65527),
    help="Bytes of a probe, or of each piece of a file or stdin.",
)
@options.limits
@click.option("--interval", type=p.TIME, help="Time between rounds (1s with -c and no rate).")
@click.option("--pps", type=p.RATE, help="Datagrams per second, over all groups.")
@click.option("-b", "--bitrate", type=p.RATE, help="Payload bits per second.")
@click.option("--flood", is_flag=True, help="As fast as it goes (files without a rate, too).")
@click.option("--no-gso", is_flag=True, help="No segmentation offload, for captures and shapers.")
@options.egress
@options.iface("Interface to send by; repeat for several.")
@options.port
@options.family
@click.option("--unicast", is_flag=True, help="Allow an ordinary address.")
@click.option("--wait", type=p.TIME, help="Hear replies this long after (stdin: 500ms).")
@metrics.options
@options.output()
@options.dumps
def command(**given: Any) -> int:
    """Translate the options, send, and say how it went."""
    contradictions.sending(given)
    replay.check(given)
    messages.check_sending(given)
    endpoint = _endpoint(given)
    pace = _pace(given)
    exporter = metrics.exporter("send", given, [format_endpoint(endpoint)])
    way = sender.Egress(given["ttl"], not given["no_loop"], given["dscp"], *given["bind"])
    name, sink = run.open_sink(given)
    trace = given["quiet"] == 0 and (name in ("json", "jsonl") or given["verbose"] > 0)
    wanted = sender.targets([endpoint], [nic.find(name) for name in given["iface"]])
    content = _payloads(given, len(wanted), pace)
    pairs = sender.open_all(wanted, way)
    due = replay.timetable(given, content)
    segment = not given["no_gso"]
    sending = Transmission(pairs, content, pace, trace=trace, segment=segment, timetable=due)
    started = time.monotonic_ns()
    wait = given["wait"] if given["wait"] is not None else content.linger_s
    deadline = None if given["timeout"] is None else started + given["timeout"] * 1e9

    def outcome() -> run.Outcome:
        fields = sending.summary((time.monotonic_ns() - started) / 1e9)
        status = NO if fields["refused"] or sending.fell_short else YES
        nothing = fields["refused"] and not fields["sent"]
        return run.Outcome(sending.reason, fields, COULD_NOT_ASK if nothing else status)

    status = run.stream(
        "send",
        [format_endpoint(endpoint)],
        sink,
        lambda loop: sending.run(loop, deadline, wait * 1e9),
        outcome,
        aside=views.progress(given, sending, deadline),
        exporter=exporter and exporter.of(sending.metrics),
    )
    sending.close()
    return status


def _endpoint(given: dict[str, Any]) -> Endpoint:
    endpoint: Endpoint = options.complete(
        [given["endpoint"]], port=given["port"], ipv4=given["ipv4"], ipv6=given["ipv6"]
    )[0]
    if not given["unicast"] and not is_multicast(endpoint.group):
        raise AddressError(
            f"{endpoint.group} is not a multicast group",
            hint="groups lie in 224.0.0.0/4 and ff00::/8; --unicast allows an ordinary address",
        )
    return endpoint


def _pace(given: dict[str, Any]) -> Pace:
    rates = [name for name in ("interval", "pps", "bitrate") if given[name] is not None]
    if len(rates) + given["flood"] > 1:
        raise PayloadError("two rates were given", hint="keep one of --interval --pps -b --flood")
    repeats = given["count"] is not None or given["timeout"] is not None or given["probe"]
    own_pace = given["message"] or not _has_data(given)
    if not rates and not given["flood"] and repeats and not own_pace:
        return Pace(interval_s=1.0)
    return Pace(interval_s=given["interval"], pps=given["pps"], bitrate=given["bitrate"])


def _has_data(given: dict[str, Any]) -> bool:
    return given["data"] is not None or given["hex_data"] is not None or bool(given["probe"])


def _payloads(given: dict[str, Any], targets: int, pace: Pace) -> payloads.Payloads:
    size, count = given["size"], given["count"]
    if given["message"] or given["replay"] is not None:
        return (messages.parts if given["message"] else replay.payloads)(given, targets)
    if given["probe"]:
        return payloads.Probes(size or 64, targets, count, given["ttl"])
    if _has_data(given):
        data = given["hex_data"] if given["data"] is None else os.fsencode(given["data"])
        once = not (pace.limited or given["flood"]) and count is None
        return payloads.Repeated(data, targets, 1 if once else count)
    if given["file"] is not None:
        descriptor = payloads.open_file(given["file"])
        return payloads.Chunks(descriptor, size or 1316, targets, count, whole=True)
    if given["raw_stdin"]:
        return payloads.Chunks(0, size or 8192, targets, count, whole=False)
    return payloads.Lines(0, targets, count)
