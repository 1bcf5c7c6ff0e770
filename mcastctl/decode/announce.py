"""Announcements of sessions and services: SAP with SDP (RFC 2974, 8866) and SSDP (UPnP 2.0)."""

import zlib

from mcastctl.decode.cursor import Cursor, Fields, Malformed

_MOST_LINES = 200
_MOST_BYTES = 1 << 16
"""Of a compressed announcement: no session is described in more."""


def sap(data: bytes, fields: Fields) -> None:
    """Note what one SAP packet announces or takes back. Raises Short and Malformed."""
    cursor = Cursor(data)
    flags = cursor.u8()
    fields["version"] = flags >> 5
    fields["type"] = "deletion" if flags & 4 else "announcement"
    if flags >> 5 != 1:
        raise Malformed(f"SAP version {flags >> 5}")
    authentication = 4 * cursor.u8()
    fields["hash"] = cursor.u16()
    fields["origin"] = cursor.ipv6() if flags & 16 else cursor.ipv4()
    cursor.skip(authentication)
    body = cursor.rest()
    if flags & 3:
        fields["encoded"] = "encrypted" if flags & 2 else "compressed"
        if flags & 2:
            return
        body = _inflated(body)
    kind = "application/sdp"
    if b"\0" in body and not body.startswith(b"v=0"):
        head, _, body = body.partition(b"\0")
        kind = head.decode(errors="backslashreplace")
    fields["payload_type"] = kind
    if kind == "application/sdp":
        _sdp(body.decode(errors="backslashreplace"), fields)


def _inflated(data: bytes) -> bytes:
    """Return what zlib packed (RFC 2974 section 3), within bounds, as far as it was captured."""
    try:
        return zlib.decompressobj().decompress(data, _MOST_BYTES)
    except zlib.error as error:
        raise Malformed(f"not what zlib packs: {error}") from error


def _sdp(text: str, fields: Fields) -> None:
    """Note name, origin, connections and media of a session description."""
    media: list[Fields] = []
    for line in text.split("\n", _MOST_LINES)[:_MOST_LINES]:
        key, found, value = line.partition("=")
        value = value.strip()
        if not found:
            continue
        if key == "s":
            fields["session"] = value
        elif key == "o":
            fields["owner"] = value
        elif key == "c":
            (media[-1] if media else fields)["connection"] = value.split(" ")[-1]
        elif key == "m":
            parts = value.split(" ")
            port = parts[1].partition("/")[0] if len(parts) > 1 else ""
            media.append({"media": parts[0], "port": int(port) if _is_port(port) else None})
            media[-1]["protocol"] = parts[2] if len(parts) > 2 else None
    fields["media"] = media


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def sap_info(fields: Fields) -> str:
    """Return the announcement in a few words."""
    parts = [f"sap {fields.get('type', '')}".rstrip()]
    if "encoded" in fields:
        parts[0] += f" ({fields['encoded']})"
    if "session" in fields:
        parts.append(f'"{fields["session"]}"')
    for one in fields.get("media", ()):
        where = one.get("connection") or fields.get("connection") or "?"
        parts.append(f"{one['media']} {where} port {one['port']}")
    return ", ".join(parts)


def ssdp(data: bytes, fields: Fields) -> None:
    """Note method and headers of one SSDP message. Raises Malformed."""
    head = data.split(b"\r\n\r\n", 1)[0].decode(errors="backslashreplace")
    first, *lines = head.splitlines()[:_MOST_LINES] or [""]
    words = first.split(" ")
    if words[0].startswith("HTTP/"):
        fields["type"] = "response"
        fields["status"] = " ".join(words[1:])
    elif words[-1].startswith("HTTP/"):
        fields["type"] = words[0].lower()
    else:
        raise Malformed("SSDP without an HTTP line")
    headers: Fields = {}
    for line in lines:
        key, found, value = line.partition(":")
        if found:
            headers.setdefault(key.strip().lower(), value.strip())
    fields["headers"] = headers


def ssdp_info(fields: Fields) -> str:
    """Return the message in a few words."""
    headers = fields.get("headers", {})
    parts = ["ssdp", *([fields["type"]] if "type" in fields else [])]
    parts += [headers[key] for key in ("nts", "st", "nt", "location") if headers.get(key)]
    return " ".join(parts)
