// Reads what docs/WIRE.md describes. Needs protobufjs alone.
const zlib = require("node:zlib");

const PROTOBUF = ["", "application/octet-stream", "application/protobuf", "application/x-protobuf",
  "application/x-google-protobuf", "application/vnd.google.protobuf"];
const UNCOMPRESSED = ["", "identity", "binary", "8bit", "7bit", "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1"];
const SENT = 16 << 20, UNPACKED = 64 << 20, RATIO = 100, FREE = 1 << 20, ITEMS = 10_000;

class Undecodable extends Error {} // the message is a dead letter; the text begins with the kind of the error

/** Objects of id and message. For an item of a batch that cannot be read, the message is an Undecodable. */
function read(type, body, { contentType, contentEncoding, type: typeName, messageId } = {}) {
  const [media, ...rest] = (contentType ?? "").split(";").map((part) => part.trim());
  const named = rest.map((part) => part.split(/\s*=\s*/)).filter((pair) => pair.length === 2);
  named.reverse(); // the first of a name counts
  const parameters = new Map(named.map(([name, value]) => [name.toLowerCase(), value.replaceAll('"', "")]));
  const name = type.fullName.slice(1), encoding = (contentEncoding ?? "").toLowerCase();
  if (!PROTOBUF.includes(media.toLowerCase())) throw new Undecodable(`content_type: ${media} is not Protobuf`);
  if ((typeName || name) !== name || (parameters.get("proto") || name) !== name)
    throw new Undecodable(`type_name: ${typeName} or ${contentType} is not ${name}`);
  if ((parameters.get("encoding") ?? "delimited").toLowerCase() !== "delimited")
    throw new Undecodable(`batching: ${contentType} names no known form of a batch`);
  if (body.length > SENT) throw new Undecodable(`too_large: ${body.length} bytes`);
  if (["gzip", "x-gzip"].includes(encoding)) body = unpack(body);
  else if (!UNCOMPRESSED.includes(encoding)) throw new Undecodable(`content_encoding: ${encoding} is not gzip`);
  if (!parameters.has("encoding")) return [{ id: messageId, message: parse(type, body) }];
  return split(type, body).map((message, index) => ({ id: messageId && `${messageId}/${index}`, message }));
}

function parse(type, body) {
  try {
    return type.decode(body);
  } catch (error) {
    throw new Undecodable(`malformed: ${error.message}`);
  }
}

function unpack(body) { // all members, and never more than the limits
  const maxOutputLength = Math.min(UNPACKED, Math.max(FREE, RATIO * body.length));
  try {
    const { buffer, engine } = zlib.gunzipSync(body, { maxOutputLength, info: true });
    if (engine.bytesWritten === body.length) return buffer; // else zlib has ignored what follows the last member
  } catch (error) {
    const tooMuch = maxOutputLength < UNPACKED ? "ratio" : "too_large";
    throw new Undecodable(`${error.code === "ERR_BUFFER_TOO_LARGE" ? tooMuch : "gzip"}: ${error.message}`);
  }
  throw new Undecodable("gzip: other bytes follow the last member");
}

function split(type, body) { // what follows a damaged length is one item that cannot be read, the last one
  const items = [];
  for (let at = 0, end = 0; end < body.length; at = end) {
    if (items.length === ITEMS) throw new Undecodable(`too_many_items: more than ${ITEMS}`);
    const size = body.subarray(at, at + 10).findIndex((byte) => byte < 0x80) + 1 || body.length + 1;
    const length = body.subarray(at, at + size).reduce((sum, byte, index) => sum + (byte & 0x7f) * 2 ** (7 * index), 0);
    end = at + size + length;
    try {
      items.push(end > body.length ? new Undecodable("framing: damaged") : parse(type, body.subarray(at + size, end)));
    } catch (error) { items.push(error); }
  }
  return items;
}
module.exports = { read, Undecodable };
