// Writes what docs/WIRE.md describes. Needs protobufjs alone.
const crypto = require("node:crypto");
const zlib = require("node:zlib");

/** The body of one message, or of a batch of messages, and its properties, named as amqplib names them. */
function write(type, messages, { batch = false, gzip = false } = {}) {
  if (!batch && messages.length !== 1) throw new Error("a body that is no batch has one message");
  const name = type.fullName.slice(1);
  const options = {
    contentType: `application/vnd.google.protobuf; proto=${name}${batch ? "; encoding=delimited" : ""}`,
    type: name,
    deliveryMode: 2,
    messageId: crypto.randomUUID(),
    timestamp: Math.floor(Date.now() / 1000),
  };
  const parts = messages.map((message) => (batch ? type.encodeDelimited(message) : type.encode(message)).finish());
  let body = Buffer.concat(parts);
  if (gzip) {
    body = zlib.gzipSync(body);
    options.contentEncoding = "gzip";
  }
  return { body, options };
}
module.exports = { write };
