// A peer that uses amqplib. interop/README.md has its commands.
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const amqplib = require("amqplib");
const protobuf = require("protobufjs");
const { read, Undecodable } = require("./reader");
const { write } = require("./writer");

const DIRECT = "amq.rabbitmq.reply-to";
const PATIENCE = 10_000;
const HEADERS = {
  bool: true, int8: -8, int16: -1600, int32: -70000, int64: -5_000_000_000,
  uint8: 200, uint16: 60000, uint32: 4_000_000_000, float: 1.5, double: 2.25,
  decimal: { "!": "decimal", value: { places: 2, digits: 1234 } }, text: "Grüße", bytes: Buffer.from([0, 1, 255]),
  time: { "!": "timestamp", value: 1_500_000_000 }, list: [1, "two"], table: { inner: 7 }, void: null,
};

const [url, vectors] = process.argv.slice(2);
const root = new protobuf.Root();
root.resolvePath = (_, target) => (target.startsWith("google/") ? target : path.join(process.env.PROTO, target));
const Quake = root.loadSync("usgs/v1/quake.proto").lookupType("usgs.v1.Quake");
const labels = { contentType: "application/protobuf; encoding=delimited" };
const quakes = read(Quake, fs.readFileSync(path.join(vectors, "quakes.delimited")), labels).map((item) => item.message);

function decode({ content, properties }) {
  const items = read(Quake, content, properties);
  const bad = items.find(({ message }) => message instanceof Undecodable);
  if (bad) throw bad.message;
  return items;
}

class Peer {
  constructor(channel) {
    this.channel = channel;
  }

  async publish(queue, body, options, mandatory = true) {
    this.channel.sendToQueue(queue, body, { mandatory, ...options });
    await this.channel.waitForConfirms();
  }

  async take(queue) {
    for (const end = Date.now() + PATIENCE; Date.now() < end; ) {
      const message = await this.channel.get(queue);
      if (message) return message;
      await new Promise((wake) => setTimeout(wake, 10));
    }
    throw new Error(`no message in ${queue} within ${PATIENCE} ms`);
  }

  /** Calls `handle` for each delivery until it returns true. */
  async consume(queue, handle, options = {}) {
    const tag = `peer-${Math.random()}`;
    let timer;
    const work = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`not enough messages from ${queue} within ${PATIENCE} ms`)), PATIENCE);
      let before = Promise.resolve(false);
      const one = async (message) => {
        const isDone = await handle(message);
        if (!options.noAck) this.channel.ack(message);
        if (isDone) resolve();
      };
      const next = (message) => { before = before.then(() => one(message)).catch(reject); };
      this.channel.consume(queue, next, { consumerTag: tag, ...options }).catch(reject);
    });
    await work.finally(() => clearTimeout(timer));
    await this.channel.cancel(tag);
  }

  async send(queue, count, ...options) {
    const some = quakes.slice(0, Number(count));
    const batch = options.includes("batch");
    for (const [index, part] of (batch ? [some] : some.map((quake) => [quake])).entries()) {
      const { body, options: written } = write(Quake, part, { batch, gzip: options.includes("gzip") });
      const properties = options.includes("bare") ? {} : written;
      if (options.includes("headers")) properties.headers = HEADERS;
      await this.publish(queue, body, { ...properties, messageId: `sent-${index}` });
    }
  }

  async echo(source, target, count) {
    let left = Number(count);
    await this.consume(source, async (delivery) => {
      for (const { id, message } of decode(delivery)) {
        const { body, options } = write(Quake, [message]);
        await this.publish(target, body, { ...options, messageId: id, headers: delivery.properties.headers });
        left -= 1;
      }
      return left <= 0;
    });
  }

  async serve(queue, count) {
    let left = Number(count);
    await this.consume(queue, async (request) => {
      const [{ message: quake }] = decode(request);
      const { replyTo, correlationId } = request.properties;
      let body = Buffer.alloc(0);
      let options = { headers: { "x-fluffle-reason": "rejected", "x-fluffle-error": "a quake without a place" } };
      if (quake.place) {
        quake.title += ", answered";
        ({ body, options } = write(Quake, [quake]));
      }
      // Without `mandatory`: the broker returns even the answers to direct reply-to that have arrived.
      await this.publish(replyTo, body, { ...options, correlationId }, false);
      left -= 1;
      return left === 0;
    });
  }

  async ask(queue) {
    const answers = {};
    const waiting = this.consume(DIRECT, (answer) => {
      answers[answer.properties.correlationId] = answer;
      return Object.keys(answers).length === 2;
    }, { noAck: true });
    for (const index of [0, 2]) {
      const { body, options } = write(Quake, [quakes[index]]);
      await this.publish(queue, body, { ...options, deliveryMode: 1, replyTo: DIRECT, correlationId: `ask-${index}` });
    }
    await waiting;
    const refused = answers["ask-2"].properties.headers["x-fluffle-error"];
    return `title=${decode(answers["ask-0"])[0].message.title} refused=${refused}`;
  }

  async dead(queue) {
    const letter = await this.take(queue);
    const { headers } = letter.properties;
    const there = Object.entries(HEADERS).filter(([name]) => name in headers);
    for (const [name, expected] of there) assert.deepStrictEqual(headers[name], expected, name);
    await this.publish(headers["x-fluffle-origin-queue"], letter.content, letter.properties);
    this.channel.ack(letter);
    const names = ["reason", "attempt", "origin-queue", "error"];
    return [`headers=${there.length}`, ...names.map((name) => `${name}=${headers[`x-fluffle-${name}`]}`)].join(" ");
  }
}

async function main() {
  const connection = await amqplib.connect(url);
  const peer = new Peer(await connection.createConfirmChannel());
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ...words] = line.split(" ");
    try {
      console.log(`ok ${(await peer[name](...words)) ?? ""}`);
    } catch (error) {
      console.log(`failed: ${error.message.replaceAll("\n", " ")}`);
    }
  }
  await connection.close();
}

main();
