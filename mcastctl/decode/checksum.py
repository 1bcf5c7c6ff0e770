"""The Internet checksum (RFC 1071) and its pseudo-headers (RFC 768, RFC 8200 section 8.1)."""


def is_right(data: bytes) -> bool:
    """Tell whether `data`, its checksum field included, sums to all ones.

    One's complement addition of 16-bit words is arithmetic modulo 65535, so the whole data is
    one number, and only nothing at all could be mistaken for a sum of zero.
    """
    if len(data) & 1:
        data += b"\0"
    return int.from_bytes(data, "big") % 0xFFFF == 0 and any(data)


def pseudo_header(src: bytes, dst: bytes, protocol: int, length: int) -> bytes:
    """Return what a transport checksum covers of the IP header; addresses are packed."""
    if len(src) == 4:
        return src + dst + bytes((0, protocol)) + length.to_bytes(2, "big")
    return src + dst + length.to_bytes(4, "big") + b"\0\0\0" + bytes((protocol,))


def is_unfinished(pseudo: bytes, field: int) -> bool:
    """Tell whether the field holds the sum of the pseudo-header alone.

    So it looks before the network card completes it (CHECKSUM_PARTIAL): on the sending host,
    and all the way between virtual interfaces.
    """
    return int.from_bytes(pseudo, "big") % 0xFFFF == field % 0xFFFF
