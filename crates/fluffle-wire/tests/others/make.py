"""Makes the messages of `made.json` with the libraries that others use:

    pip install cloudevents==2.2.0 celery==5.7.0 kombu==5.7.0
    python make.py > made.json
"""
import base64, datetime, json
from celery import Celery
from cloudevents.core.bindings import amqp
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from kombu import compression, serialization

made = []
order = {"orderId": "o-17", "cents": 4995, "note": "Grüße an Zoë"}


def add(name, content_type, content_encoding, headers, body):
    # As in AMQP, where a header without a value is no text. Lists and tables are left out: no reader looks at them.
    headers = {k: v for k, v in headers.items() if isinstance(v, (str, int)) and not isinstance(v, bool)}
    made.append(dict(name=name, content_type=content_type, content_encoding=content_encoding, headers=headers,
                     body_base64=base64.b64encode(body).decode()))


attributes = {
    "id": "e-1", "source": "/shop/orders", "type": "com.shop.order.placed", "datacontenttype": "application/json",
    "time": datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
protobuf = {"datacontenttype": "application/protobuf", "type": "gov.usgs.alert"}
for name, more, data in [("json", {}, order), ("protobuf", protobuf, b"\x0a\x04o-17")]:
    event = CloudEvent(attributes=attributes | more, data=data)
    for mode in ["structured", "binary"]:
        message = getattr(amqp, "to_" + mode)(event, JSONFormat())
        add(f"cloudevents-{mode}-{name}", message.properties.get("content-type"), None,
            message.application_properties, message.application_data)

app = Celery("shop")


def task(name, serializer="json", compress=None, **options):
    message = app.amqp.as_task_v2(
        "c0ffee00-0000-4000-8000-000000000001", "shop.tasks.place_order", origin="gen1@shop", **options)
    content_type, content_encoding, body = serialization.dumps(message.body, serializer=serializer)
    headers = dict(message.headers)
    body = body.encode(content_encoding) if isinstance(body, str) else body
    if compress:
        body, headers["compression"] = compression.compress(body, compress)
    add(name, content_type, content_encoding, headers, body)


task("celery-keywords", kwargs=order)
task("celery-arguments", args=["o-17", 4995, "Grüße an Zoë"])
task("celery-argument", args=[order])
task("celery-pickle", serializer="pickle", kwargs=order)
task("celery-compressed", compress="gzip", kwargs=order)
task("celery-countdown", kwargs=order, countdown=60)
task("celery-chain", kwargs=order, chain=[app.signature("shop.tasks.next", kwargs={})])
print(json.dumps(made, indent=1, ensure_ascii=False))
