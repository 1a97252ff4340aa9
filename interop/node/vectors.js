// Runs the vectors of docs/vectors with this folder's reader and writer: `node vectors.js <docs/vectors>`.
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const protobuf = require("protobufjs");
const { read, Undecodable } = require("./reader");
const { write } = require("./writer");

const folder = process.argv[2];
const Quake = new protobuf.Root();
Quake.resolvePath = (_, target) => (target.startsWith("google/") ? target : path.join(process.env.PROTO, target));
const type = Quake.loadSync("usgs/v1/quake.proto").lookupType("usgs.v1.Quake");
const { messages, vectors } = JSON.parse(fs.readFileSync(path.join(folder, "index.json")));
const kind = (error) => error.message.split(":")[0];

// protobufjs does not read ProtoJSON, so these fields stand for the message.
const inJson = (json) => [json.id ?? "", json.magnitude, json.place ?? "", json.location?.depthKm,
  json.eventTime && Date.parse(json.eventTime)];
const inMessage = (quake) => [quake.id, quake.magnitude ?? undefined, quake.place, quake.location?.depthKm,
  quake.eventTime ? Number(quake.eventTime.seconds) * 1000 + quake.eventTime.nanos / 1e6 : undefined];

// What a reader of Protobuf and of batches of one type says to the rest.
const REFUSED = { json: "content_type", typed: "batching" };

for (const vector of vectors) {
  const file = fs.readFileSync(path.join(folder, vector.file));
  const body = Buffer.concat(Array(vector.repeat ?? 1).fill(file));
  const refused = REFUSED[vector.format] ?? vector.error;
  const labels = { contentType: vector.content_type, contentEncoding: vector.content_encoding, type: vector.type,
    messageId: vector.message_id };
  const text = JSON.stringify(vector);
  let items;
  try {
    items = read(type, body, labels);
  } catch (error) {
    assert(error instanceof Undecodable, error);
    assert.strictEqual(kind(error), refused, text);
    continue;
  }
  assert.strictEqual(refused, undefined, text);
  const found = items.map(({ message }) => (message instanceof Undecodable ? kind(message) : inMessage(message)));
  const wanted = vector.messages.map((index) => (index < 0 ? vector.item_error : inJson(messages[index])));
  assert.deepStrictEqual(found, wanted, text);
  assert.deepStrictEqual(items.map(({ id }) => id), vector.ids ?? items.map(() => undefined), text);
  if (vector.written) {
    const written = write(type, items.map(({ message }) => message), { batch: vector.file.includes("delimited") });
    assert.deepStrictEqual(written.body, body, text);
    assert.deepStrictEqual([written.options.contentType, written.options.type], [vector.content_type, vector.type]);
  }
}
console.log(`ok ${vectors.length} vectors`);
