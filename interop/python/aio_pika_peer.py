"""A peer that uses aio-pika. interop/README.md has its commands."""

import asyncio
import sys

import aio_pika
from common import HEADERS, PATIENCE, answer, check_headers, commands, decode, describe, messages, say
from reader import read
from usgs.v1.quake_pb2 import Quake
from writer import write

# aio-pika writes bytes only from a bytearray.
WRITTEN = HEADERS | {"bytes": bytearray(HEADERS["bytes"])}


def message(body, properties):
    return aio_pika.Message(body, **properties)


class Peer:
    def __init__(self, channel, vectors):
        self.channel = channel
        self.quakes = messages(vectors)

    async def publish(self, queue, sent):
        await self.channel.default_exchange.publish(sent, queue, mandatory=True, timeout=PATIENCE)

    async def take(self, queue):
        queue = await self.channel.get_queue(queue, ensure=False)
        for _ in range(PATIENCE * 100):
            if taken := await queue.get(fail=False):
                return taken
            await asyncio.sleep(0.01)
        raise TimeoutError(f"no message in {queue} within {PATIENCE} s")

    async def send(self, queue, count, *options):
        quakes = self.quakes[:int(count)]
        parts = [quakes] if "batch" in options else [[quake] for quake in quakes]
        for index, part in enumerate(parts):
            body, properties = write(part, batch="batch" in options, compress="gzip" in options)
            if "bare" in options:
                properties = {}
            if "headers" in options:
                properties["headers"] = WRITTEN
            properties["message_id"] = f"sent-{index}"
            await self.publish(queue, message(body, properties))

    async def echo(self, source, target, count):
        left = int(count)
        queue = await self.channel.get_queue(source, ensure=False)
        async with queue.iterator(timeout=PATIENCE) as deliveries:
            async for delivery in deliveries:
                for message_id, quake in decode(delivery.body, delivery):
                    body, properties = write([quake])
                    properties |= {"message_id": message_id, "headers": delivery.headers}
                    await self.publish(target, message(body, properties))
                    left -= 1
                await delivery.ack()
                if left <= 0:
                    break

    async def serve(self, queue, count):
        left = int(count)
        queue = await self.channel.get_queue(queue, ensure=False)
        async with queue.iterator(timeout=PATIENCE) as requests:
            async for request in requests:
                answered, refused = answer(decode(request.body, request)[0][1])
                if answered:
                    body, properties = write([answered])
                else:
                    body, properties = b"", {"headers": {"x-fluffle-reason": "rejected", "x-fluffle-error": refused}}
                properties["correlation_id"] = request.correlation_id
                # Without `mandatory`: the broker returns even the answers to direct reply-to that have arrived.
                await self.channel.default_exchange.publish(
                    message(body, properties), request.reply_to, mandatory=False, timeout=PATIENCE)
                await request.ack()
                left -= 1
                if left == 0:
                    break

    async def ask(self, queue):
        answers = await self.channel.declare_queue(exclusive=True)
        for index in (0, 2):
            body, properties = write([self.quakes[index]])
            properties |= {"reply_to": answers.name, "correlation_id": f"ask-{index}", "delivery_mode": 1}
            await self.publish(queue, message(body, properties))
        by_id = {}
        async with answers.iterator(timeout=PATIENCE, no_ack=True) as deliveries:
            async for delivery in deliveries:
                by_id[delivery.correlation_id] = delivery
                if len(by_id) == 2:
                    break
        await answers.delete(if_unused=False, if_empty=False)
        answered, refused = by_id["ask-0"], by_id["ask-2"]
        quake = read(Quake, answered.body, answered.content_type, answered.content_encoding, answered.type)[0][1]
        return f"title={quake.title} refused={refused.headers['x-fluffle-error']}"

    async def dead(self, queue):
        letter = await self.take(queue)
        count = check_headers(letter.headers)
        await self.publish(letter.headers["x-fluffle-origin-queue"], letter)
        await letter.ack()
        return f"headers={count} {describe(letter.headers)}"


async def main(url, vectors):
    async with await aio_pika.connect(url, timeout=PATIENCE) as connection:
        peer = Peer(await connection.channel(publisher_confirms=True), vectors)
        lines = commands()
        while words := await asyncio.to_thread(next, lines, None):
            try:
                say(f"ok {await getattr(peer, words[0])(*words[1:]) or ''}")
            except Exception as error:  # the text of any error is what the other side reports
                say(f"failed: {type(error).__name__}: {error}")


asyncio.run(main(*sys.argv[1:]))
