"""What both Python peers share: the messages and headers that every peer has, and the loop over commands."""

import datetime
import decimal
import sys
from pathlib import Path

from reader import Undecodable, read
from usgs.v1.quake_pb2 import Quake

PATIENCE = 10  # seconds for each wait

HEADERS = {
    "bool": True, "int8": -8, "int16": -1600, "int32": -70000, "int64": -5_000_000_000,
    "uint8": 200, "uint16": 60000, "uint32": 4_000_000_000, "float": 1.5, "double": 2.25,
    "decimal": decimal.Decimal("12.34"), "text": "Grüße", "bytes": b"\x00\x01\xff",
    "time": datetime.datetime(2017, 7, 14, 2, 40, tzinfo=datetime.timezone.utc), "list": [1, "two"],
    "table": {"inner": 7}, "void": None,
}


def messages(folder):
    """The first three messages of the vectors."""
    index = read(Quake, (Path(folder) / "quakes.delimited").read_bytes(), "application/protobuf; encoding=delimited")
    return [quake for _, quake in index]


def decode(body, properties):
    """The messages in a delivery, each with its id."""
    found = read(Quake, body, properties.content_type, properties.content_encoding, properties.type,
                 properties.message_id)
    for _, quake in found:
        if isinstance(quake, Undecodable):
            raise quake
    return found


def check_headers(headers):
    """Every header of `HEADERS` that is there has the expected value. Returns how many there are."""
    there = {name: value for name, value in HEADERS.items() if name in headers}
    for name, expected in there.items():
        found = headers[name]
        if isinstance(found, datetime.datetime) and found.tzinfo is None:
            found = found.replace(tzinfo=datetime.timezone.utc)
        if found != expected or isinstance(found, bool) != isinstance(expected, bool):
            raise ValueError(f"header {name}: expected {expected!r}, found {found!r}")
    return len(there)


def describe(headers):
    """What a dead letter says of itself, on one line."""
    names = ("reason", "attempt", "origin-queue", "error")
    return " ".join(f"{name}={headers[f'x-fluffle-{name}']}" for name in names)


def answer(quake):
    """The answer to a request, or the reason for refusing it."""
    if not quake.place:
        return None, "a quake without a place"
    title = f"{quake.title}, answered"
    quake.title = title
    return quake, None


def commands():
    """The words of each line on the standard input."""
    for line in sys.stdin:
        yield line.split()


def say(text):
    print(text, flush=True)
