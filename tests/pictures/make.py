"""The pictures of the README, made by real runs: `cd tests && python -m pictures.make`.

Each scene runs in a network of its own with fixed addresses, on a terminal that pyte interprets;
rich draws what is on it then. A test runs the scenes again and compares all but the numbers.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from place import Place
from rich.console import Console
from rich.style import Style
from rich.text import Text
from streams import inject
from terminal import Terminal
from test_streams import rtp_packet
from world import World

HERE = Path(__file__).parent
GROUP = "239.1.1.1:5004"
WIDTH = 107  # the table of streams has room to spare, but not for another column

# rich's own, without fonts from the network.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"
     xml:space="preserve">
    <!-- made by tests/pictures/make.py -->
    <style>
    .{unique_id}-matrix {{
        font-family: monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})"
       clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def rtp(seq: int) -> bytes:
    packet = rtp_packet(payload_type=33, body=bytes(1316))
    return packet[:2] + (seq & 0xFFFF).to_bytes(2, "big") + packet[4:]


def run(terminal: Terminal, place: Place, command: str) -> None:
    """Run mcastctl to its end."""
    terminal.finish(terminal.start(place, command.split()[1:]))


def listen(world: World, terminal: Terminal) -> str:
    """Three datagrams."""
    command = f"mcastctl listen {GROUP} -i eth0 -c 3"
    here, there = world.host("eth"), world.host("tx")
    world.link(here, there)
    running = terminal.start(here, command.split()[1:])
    terminal.wait("^joined")
    sending = ["send", GROUP, "-i", "tx0", "--bind", ":4000", "-t", "8"]
    there.mcastctl(*sending, "hello", "-c", "2", "--interval", "100ms", check=True)
    there.mcastctl(*sending, "--probe", "-s", "1200", "-c", "1", "-Q", "ef", check=True)
    terminal.finish(running)
    return command


def ping(world: World, terminal: Terminal) -> str:
    """Three hosts answer, and one that should does not."""
    command = f"mcastctl ping {GROUP} -i eth0 -c 2 --interval 300ms"
    asker, *others = (world.host(name) for name in ("eth", "x", "y", "z"))
    world.bridge("sw", asker, *others)
    for host in others:
        host.start_mcastctl("echo", GROUP, "-j").wait_stdout('"joined"')
    run(terminal, asker, command)
    return command


def streams(world: World, terminal: Terminal) -> str:
    """Three streams, one of them losing."""
    command = "mcastctl listen 239.1.1.0:5004+3 -i eth0 --live --interval 100ms"
    here, there = world.host("eth"), world.host("tx")
    world.link(here, there)
    terminal.resize(WIDTH, 12)
    running = terminal.start(here, command.split()[1:])
    terminal.wait("nothing yet")
    for group, pace in (("239.1.1.1:5004", "200"), ("239.1.1.2:5004", "2k")):
        sending = ["send", group, "--probe", "--pps", pace, "-s", "1316", "-T", "20s", "-q"]
        there.start_mcastctl(*sending, "-i", "tx0", "--bind", ":4000", "-t", "8")
    numbers = [one for one in range(600) if one % 80]  # every eightieth is missing
    inject(there, "239.1.1.3", [rtp(one) for one in numbers], sport=4002, gap_s=0.003)
    terminal.wait("239.1.1.3:5004 .*x.*x")
    terminal.snapshot()
    terminal.press("q")
    terminal.finish(running)
    return command


def doctor(world: World, terminal: Terminal) -> str:
    """The packet filter of the receiver takes it."""
    command = f"mcastctl doctor {GROUP} -i eth0 -T 2s"
    here, there = world.host("eth"), world.host("tx")
    world.link(here, there)
    here.sysctl("net/ipv6/conf/eth0/disable_ipv6", 1)  # whose counters may move or not
    here.sh(
        "nft add table inet filter;"
        "nft add chain inet filter input '{ type filter hook input priority 0; }';"
        "nft add rule inet filter input ip daddr 224.0.0.0/4 udp dport 5004 drop"
    )
    here.start_mcastctl("listen", GROUP, "-i", "eth0", "-q").wait_stderr("joined|^$")
    there.start_mcastctl("send", GROUP, "-i", "tx0", "--probe", "--pps", "50", "-T", "20s", "-q")
    run(terminal, here, command)
    return command


SCENES: dict[str, Callable[[World, Terminal], str]] = {
    "listen": listen,
    "ping": ping,
    "streams": streams,
    "doctor": doctor,
}


def picture(name: str) -> str:
    """Play a scene and return it as SVG."""
    with World() as world, Terminal(WIDTH, 24) as terminal:
        command = SCENES[name](world, terminal)
        lines = [[("$ ", Style(bold=True)), (command, Style())], *terminal.styled()]
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.assemble(*line), no_wrap=True, overflow="crop", highlight=False)
    return console.export_svg(title="", code_format=FORMAT, unique_id=name)


def structure(svg: str) -> Counter[str]:
    """The lines of a picture without numbers, times, bars and marks, in any order.

    What went on in the next line for want of room is joined: numbers differ in length.
    """
    rows: dict[str, str] = {}
    drawn = ET.fromstring(svg)  # noqa: S314 - written by ourselves
    for one in drawn.iter("{http://www.w3.org/2000/svg}text"):
        row = one.get("clip-path", "")
        rows[row] = rows.get(row, "") + (one.text or "").replace("\xa0", " ").strip("\n")
    text = "".join(row if len(row.rstrip()) == WIDTH else f"{row}\n" for row in rows.values())
    return Counter(_masked(line) for line in text.splitlines() if line.strip())


def _masked(line: str) -> str:
    text = re.sub(r"[▁▂▃▄▅▆▇█][▁▂▃▄▅▆▇█ ]*", " BARS ", line)
    text = re.sub(r"(?<=BARS)[ .x:<_]+$", " MARKS", text)
    text = re.sub(r"\d+(\.\d+)*", "N", text)
    text = re.sub(r"N ?[kM]?(bit)?/s", "RATE", text)
    return " ".join(text.split())


def main() -> None:
    """Write every picture."""
    with ThreadPoolExecutor(len(SCENES)) as pool:
        for name, svg in zip(SCENES, pool.map(picture, SCENES), strict=True):
            (HERE / f"{name}.svg").write_text(svg)


if __name__ == "__main__":
    main()
