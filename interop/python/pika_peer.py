"""A peer that uses pika. interop/README.md has its commands."""

import sys
import time

import pika
from common import HEADERS, PATIENCE, answer, check_headers, commands, decode, describe, messages, say
from reader import read
from usgs.v1.quake_pb2 import Quake
from writer import write

DIRECT = "amq.rabbitmq.reply-to"
# pika writes no floating-point numbers, and reads them as integers.
WRITTEN = {name: value for name, value in HEADERS.items() if not isinstance(value, float)}


class Peer:
    def __init__(self, url, vectors):
        self.quakes = messages(vectors)
        self.channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
        self.channel.confirm_delivery()

    def publish(self, queue, body, properties):
        self.channel.basic_publish("", queue, body, pika.BasicProperties(**properties), mandatory=True)

    def take(self, queue):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            method, properties, body = self.channel.basic_get(queue)
            if method:
                return method.delivery_tag, properties, body
            self.channel.connection.process_data_events(0.01)
        raise TimeoutError(f"no message in {queue} within {PATIENCE} s")

    def consume(self, queue):
        for method, properties, body in self.channel.consume(queue, inactivity_timeout=PATIENCE):
            if method is None:
                raise TimeoutError(f"no message from {queue} within {PATIENCE} s")
            yield method.delivery_tag, properties, body

    def send(self, queue, count, *options):
        quakes = self.quakes[:int(count)]
        parts = [quakes] if "batch" in options else [[quake] for quake in quakes]
        for index, part in enumerate(parts):
            body, properties = write(part, batch="batch" in options, compress="gzip" in options)
            if "bare" in options:
                properties = {}
            if "headers" in options:
                properties["headers"] = WRITTEN
            properties["message_id"] = f"sent-{index}"
            self.publish(queue, body, properties)

    def echo(self, source, target, count):
        left = int(count)
        for tag, properties, body in self.consume(source):
            for message_id, quake in decode(body, properties):
                echoed, labels = write([quake])
                labels |= {"message_id": message_id, "headers": properties.headers or {}}
                self.publish(target, echoed, labels)
                left -= 1
            self.channel.basic_ack(tag)
            if left <= 0:
                break
        self.channel.cancel()

    def serve(self, queue, count):
        left = int(count)
        for tag, properties, body in self.consume(queue):
            answered, refused = answer(decode(body, properties)[0][1])
            if answered:
                reply, labels = write([answered])
            else:
                reply, labels = b"", {"headers": {"x-fluffle-reason": "rejected", "x-fluffle-error": refused}}
            labels["correlation_id"] = properties.correlation_id
            # Without `mandatory`: the broker returns even the answers to direct reply-to that have arrived.
            self.channel.basic_publish("", properties.reply_to, reply, pika.BasicProperties(**labels))
            self.channel.basic_ack(tag)
            left -= 1
            if left == 0:
                break
        self.channel.cancel()

    def ask(self, queue):
        answers = []
        consumer = self.channel.basic_consume(
            DIRECT, lambda _, __, properties, body: answers.append((properties, body)), auto_ack=True)
        for index in (0, 2):
            body, properties = write([self.quakes[index]])
            properties |= {"reply_to": DIRECT, "correlation_id": f"ask-{index}", "delivery_mode": 1}
            self.publish(queue, body, properties)
        end = time.monotonic() + PATIENCE
        while len(answers) < 2 and time.monotonic() < end:
            self.channel.connection.process_data_events(0.01)
        self.channel.basic_cancel(consumer)
        by_id = {properties.correlation_id: (properties, body) for properties, body in answers}
        (answered, body), (refused, _) = by_id["ask-0"], by_id["ask-2"]
        quake = read(Quake, body, answered.content_type, answered.content_encoding, answered.type)[0][1]
        return f"title={quake.title} refused={refused.headers['x-fluffle-error']}"

    def dead(self, queue):
        tag, properties, body = self.take(queue)
        count = check_headers(properties.headers)
        self.channel.basic_publish("", properties.headers["x-fluffle-origin-queue"], body, properties, mandatory=True)
        self.channel.basic_ack(tag)
        return f"headers={count} {describe(properties.headers)}"


def main(url, vectors):
    peer = Peer(url, vectors)
    for name, *arguments in commands():
        try:
            say(f"ok {getattr(peer, name)(*arguments) or ''}")
        except Exception as error:  # the text of any error is what the other side reports
            say(f"failed: {type(error).__name__}: {error}")


main(*sys.argv[1:])
