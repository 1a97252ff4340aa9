"""Reads what docs/WIRE.md describes. Needs Google's package `protobuf` alone."""
import zlib

from google.protobuf.message import DecodeError

PROTOBUF = {"", "application/octet-stream", "application/protobuf", "application/x-protobuf",
            "application/x-google-protobuf", "application/vnd.google.protobuf"}
UNCOMPRESSED = {"", "identity", "binary", "8bit", "7bit", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1"}
SENT, UNPACKED, RATIO, FREE, ITEMS = 16 << 20, 64 << 20, 100, 1 << 20, 10_000


class Undecodable(ValueError):
    """The message is a dead letter. The text begins with the kind of the error."""


def read(cls, body, content_type=None, content_encoding=None, type_name=None, message_id=None):
    """Pairs of id and message. An item of a batch that cannot be read is an Undecodable."""
    media, *rest = [part.strip() for part in (content_type or "").split(";")]
    named = [[word.strip() for word in part.split("=", 1)] for part in rest if "=" in part]
    parameters = {name.lower(): value.strip('"') for name, value in reversed(named)}  # the first of a name counts
    if media.lower() not in PROTOBUF:
        raise Undecodable(f"content_type: {media} is not Protobuf")
    if any(name and name != cls.DESCRIPTOR.full_name for name in (type_name, parameters.get("proto"))):
        raise Undecodable(f"type_name: {type_name} or {content_type} is not {cls.DESCRIPTOR.full_name}")
    if parameters.get("encoding", "delimited").lower() != "delimited":
        raise Undecodable(f"batching: {content_type} names no known form of a batch")
    if len(body) > SENT:
        raise Undecodable(f"too_large: {len(body)} bytes")
    if (content_encoding or "").lower() in ("gzip", "x-gzip"):
        body = unpack(body)
    elif (content_encoding or "").lower() not in UNCOMPRESSED:
        raise Undecodable(f"content_encoding: {content_encoding} is not gzip")
    if "encoding" not in parameters:
        return [(message_id, parse(cls, body))]
    return [(message_id and f"{message_id}/{index}", item) for index, item in enumerate(split(cls, body))]


def parse(cls, body):
    try:
        return cls.FromString(body)
    except DecodeError as error:
        raise Undecodable(f"malformed: {error}") from error


def unpack(body):  # all members, and never more than the limits
    most, unpacked = min(UNPACKED, max(FREE, RATIO * len(body))), bytearray()
    while True:
        member = zlib.decompressobj(wbits=31)
        try:
            unpacked += member.decompress(body, most + 1 - len(unpacked))
        except zlib.error as error:
            raise Undecodable(f"gzip: {error}") from error
        if len(unpacked) > most:
            raise Undecodable(f"{'ratio' if most < UNPACKED else 'too_large'}: it unpacks to more than {most} bytes")
        if not member.eof:
            raise Undecodable("gzip: it is cut short")
        if not (body := member.unused_data):
            return bytes(unpacked)


def split(cls, body):  # what follows a damaged length is one item that cannot be read, the last one
    end = count = 0
    while end < len(body):
        head = body[end:end + 10]
        size = next((index + 1 for index, byte in enumerate(head) if byte < 0x80), len(body) + 1)
        length = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(head[:size]))
        at, end, count = end + size, end + size + length, count + 1
        if count > ITEMS:
            raise Undecodable(f"too_many_items: more than {ITEMS}")
        try:
            yield parse(cls, body[at:end]) if end <= len(body) else Undecodable("framing: a length is damaged")
        except Undecodable as error:
            yield error
