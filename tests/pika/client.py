"""A foreign client of RabbitMQ: does one thing with pika and prints what it saw as JSON.

    client.py URL DO ARGUMENTS

ARGUMENTS is a JSON object. What JSON cannot say is an object of one member: {"bytes": "hex"}, {"time": seconds}, {"decimal": "3.14"}.
"""

import datetime
import decimal
import json
import sys
import time
import zlib

import pika

PATIENCE = 20


def main(url, do, arguments):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    done = COMMANDS[do](channel, **json.loads(arguments, object_hook=special))
    print(json.dumps(done, default=plain))
    connection.close()


def publish(channel, messages):
    """Publishes each and waits until the broker has it; what no queue takes is an error."""
    channel.confirm_delivery()
    for message in messages:
        channel.basic_publish(
            message.get("exchange", ""),
            routing_key(message),
            body(message),
            pika.BasicProperties(**message.get("properties", {})),
            mandatory=True,
        )


def read(channel, queue, count=1, settle="ack"):
    """Reads so many messages and settles each: `ack`, `reject` (not to come again) or `requeue`."""
    seen = []
    for message in deliveries(channel, queue, count):
        seen.append(shown(*message))
        tag = message[0].delivery_tag
        if settle == "ack":
            channel.basic_ack(tag)
        else:
            channel.basic_reject(tag, requeue=settle == "requeue")
    channel.cancel()
    return seen


def read_of(channel, name, key):
    """Reads a message from the queue of eight that the key leads to."""
    return read(channel, f"{name}#{bucket_of(key) % 8}")


def answer(channel, queue, reply):
    """Reads one request and answers it at its return address, as the tutorial does."""
    (request,) = deliveries(channel, queue, 1)
    method, properties, _ = request
    channel.confirm_delivery()
    properties_of_reply = {"correlation_id": properties.correlation_id, **reply.get("properties", {})}
    channel.basic_publish(
        "", properties.reply_to, body(reply), pika.BasicProperties(**properties_of_reply), mandatory=True
    )
    channel.basic_ack(method.delivery_tag)
    channel.cancel()
    return shown(*request)


def ask(channel, message, at=None):
    """Asks and waits for the answer, in an exclusive queue of the name `at` or by RabbitMQ's direct replies."""
    address = "amq.rabbitmq.reply-to" if at is None else at
    if at is not None:
        channel.queue_declare(at, exclusive=True)
    replies = []

    def on_reply(_, *reply):
        replies.append(shown(*reply))

    # Direct replies need a consumer that acknowledges by itself, before the request is published, on the same channel.
    channel.basic_consume(address, on_reply, auto_ack=True)
    properties = pika.BasicProperties(reply_to=address, **message.get("properties", {}))
    channel.basic_publish(message.get("exchange", ""), message.get("routing_key", ""), body(message), properties)
    deadline = time.monotonic() + PATIENCE
    while not replies and time.monotonic() < deadline:
        channel.connection.process_data_events(1)
    if not replies:
        raise TimeoutError(f"no reply at {address} within {PATIENCE} s")
    return replies[0]


def ask_and_leave(channel, message, at=None):
    """Asks and is gone before the answer."""
    address = "amq.rabbitmq.reply-to" if at is None else at
    if at is not None:
        channel.queue_declare(at, exclusive=True)
    channel.basic_consume(address, lambda *_: None, auto_ack=True)
    properties = pika.BasicProperties(reply_to=address, **message.get("properties", {}))
    channel.confirm_delivery()
    channel.basic_publish(message.get("exchange", ""), message.get("routing_key", ""), body(message), properties)


COMMANDS = {
    command.__name__: command for command in [publish, read, read_of, answer, ask, ask_and_leave]
}


def deliveries(channel, queue, count):
    found = []
    for method, properties, content in channel.consume(queue, inactivity_timeout=PATIENCE):
        if method is None:
            raise TimeoutError(f"{len(found)} of {count} messages in {queue} within {PATIENCE} s")
        found.append((method, properties, content))
        if len(found) == count:
            return found


def shown(method, properties, content):
    names = [
        "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration",
        "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id",
    ]
    fields = {name: getattr(properties, name) for name in names if getattr(properties, name) is not None}
    return {
        "exchange": method.exchange,
        "routing_key": method.routing_key,
        "redelivered": method.redelivered,
        "properties": fields,
        "headers": properties.headers,
        "body": content,
    }


def routing_key(message):
    """The one that is given, or the one that leads a key to its queue."""
    if "bucket_of" in message:
        return f"#{bucket_of(message['bucket_of'])}"
    return message.get("routing_key", "")


def bucket_of(key):
    return zlib.crc32(key.encode()) % 120


def body(message):
    content = message.get("body", "")
    return content.encode() if isinstance(content, str) else content


def special(value):
    if len(value) != 1:
        return value
    ((name, content),) = value.items()
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "time":
        return datetime.datetime.fromtimestamp(content, datetime.timezone.utc)
    if name == "decimal":
        return decimal.Decimal(content)
    return value


def plain(value):
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, datetime.datetime):
        return {"time": int(value.timestamp())}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    raise TypeError(f"{value!r} is of an unexpected type")


if __name__ == "__main__":
    main(*sys.argv[1:])
