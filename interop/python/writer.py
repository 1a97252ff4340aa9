"""Writes what docs/WIRE.md describes: labels, gzip and batches. Needs Google's package `protobuf` alone."""
import gzip
import time
import uuid

def write(messages, batch=False, compress=False):
    """The body of one message, or of a batch of messages of one type, and its properties by their AMQP names."""
    if not batch and len(messages) != 1:
        raise ValueError("a body that is no batch has one message")
    name = messages[0].DESCRIPTOR.full_name
    content_type = f"application/vnd.google.protobuf; proto={name}"
    parts = [message.SerializeToString() for message in messages]
    body = parts[0]
    if batch:
        content_type += "; encoding=delimited"
        body = b"".join(varint(len(part)) + part for part in parts)
    properties = {"content_type": content_type, "type": name, "delivery_mode": 2,
                  "message_id": str(uuid.uuid4()), "timestamp": int(time.time())}
    if compress:
        body = gzip.compress(body, mtime=0)
        properties["content_encoding"] = "gzip"
    return body, properties

def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(encoded) + bytes([number])
