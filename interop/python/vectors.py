"""Runs the vectors of docs/vectors with this folder's reader and writer: `python vectors.py <docs/vectors>`."""
import json
import sys
from pathlib import Path

from google.protobuf import json_format
from reader import Undecodable, read
from usgs.v1.quake_pb2 import Quake
from writer import write

# What a reader of Protobuf and of batches of one type says to the rest.
REFUSED = {"json": "content_type", "typed": "batching"}


def main(folder):
    index = json.loads((folder / "index.json").read_text())
    expected = [json_format.ParseDict(message, Quake()) for message in index["messages"]]
    for vector in index["vectors"]:
        body = (folder / vector["file"]).read_bytes() * vector.get("repeat", 1)
        refused = REFUSED.get(vector.get("format"), vector.get("error"))
        labels = [vector.get(name) for name in ("content_type", "content_encoding", "type", "message_id")]
        try:
            found = read(Quake, body, *labels)
        except Undecodable as error:
            check(vector, refused, kind(error))
            continue
        check(vector, refused, None)
        messages = [kind(message) if isinstance(message, Undecodable) else known(message) for _, message in found]
        check(vector, [vector["item_error"] if at < 0 else expected[at] for at in vector["messages"]], messages)
        check(vector, vector.get("ids", [None] * len(found)), [message_id for message_id, _ in found])
        if vector.get("written") and messages:  # the writer takes the type of a batch from its messages
            written, properties = write(messages, batch="delimited" in vector["file"])
            check(vector, body, written)
            check(vector, labels[:3:2], [properties["content_type"], properties["type"]])
    print(f"ok {len(index['vectors'])} vectors")


def known(message):
    """Google's library keeps fields that it does not know, and compares them."""
    message.DiscardUnknownFields()
    return message


def kind(error):
    return str(error).partition(":")[0]


def check(vector, expected, found):
    if expected != found:
        sys.exit(f"{vector}: expected {expected}, found {found}")


main(Path(sys.argv[1]))
