"""mcastctl: send, hear, answer and explain IP multicast.

The package is eight rooms off one corridor; a datagram walks
``cli -> net|capture|host -> model/decode -> output`` and never back.

    cli      what the user types        one file per subcommand
    model    what things are            pure values and rules, no I/O, no clock
    net      sockets that move data     options, sender, receiver, responder, loop
    host     what the host says         interfaces, routes, memberships, kernel knobs
    capture  frames off the wire        packet rings, libpcap, capture files, filters
    decode   bytes -> meaning           link, IP, IGMP, MLD, PIM, VRRP, mDNS, RTP, MPEG-TS
    doctor   facts -> findings          why nothing arrives; the self-test
    output   records -> people          text, JSON lines, hex, raw, tables

``tests/test_architecture.py`` holds the table of who may import whom.
"""

__version__ = "0.1.0"
