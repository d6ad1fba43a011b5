"""Writes `pika.frames`, beside this file: 10 000 frames as pika 1.4.4 encodes them, one after another as on the wire.

Every second frame is a method with random arguments, each method in its turn. The one behind it is a content header
with random properties, whose headers are the method's arguments by their names in amqp-core: so the file says not only
which octets are right, but also what they mean.

To make the file again, octet for octet: `pip install pika==1.4.4` and `python make.py`.
"""

import inspect
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from random import Random

from pika import amqp_object, frame, spec

FRAMES = 10_000
LONG_STRINGS = {"mechanisms", "locales", "response", "challenge", "channel_id", "new_secret"}
TABLES = {"arguments", "client_properties", "server_properties", "headers"}
BITS = {
    "version_major": 8, "version_minor": 8, "delivery_mode": 8, "priority": 8,
    "channel_max": 16, "heartbeat": 16, "reply_code": 16, "class_id": 16, "method_id": 16, "ticket": 16,
    "prefetch_count": 16, "frame_max": 32, "message_count": 32, "consumer_count": 32, "prefetch_size": 32,
    "delivery_tag": 63, "timestamp": 64,  # A table's integers end at 63 bits.
}
FLAGS = {
    "active", "auto_delete", "durable", "exclusive", "global_qos", "if_empty", "if_unused", "immediate", "insist",
    "internal", "mandatory", "multiple", "no_ack", "no_local", "nowait", "passive", "read", "redelivered", "requeue",
    "write",
}
RENAMED = {"type": "exchange_type", "global_qos": "global"}

random = Random(20)


def members(of, kind):
    return [member for member in vars(of).values() if inspect.isclass(member) and issubclass(member, kind)]


def parameters(of):
    return list(inspect.signature(of).parameters)


def some(limit):
    """A length, most often a small one."""
    return random.randint(0, limit if random.random() < 0.005 else 9)


def text(limit):
    """Characters of one to four octets, or any octets, `limit` octets at most."""
    if random.random() < 0.2:
        return random.randbytes(some(limit))
    return "".join(random.choices("aZ0 .-_\0üß€語🐇", k=some(limit // 4)))


def integer():
    edge = 1 << random.randint(0, 63)
    return random.choice([-edge, edge - 1, random.randrange(-edge, edge)])


def table(level=1):
    return {text(255): value(level) for _ in range(random.randint(0, 3))}


def value(level):
    """A value of any type that pika can encode."""
    kinds = [
        lambda: random.random() < 0.5,
        integer,
        lambda: Decimal(random.randrange(-(1 << 31), 1 << 31)).scaleb(-random.randint(0, 12)),
        lambda: datetime.fromtimestamp(random.randrange(1 << 37), timezone.utc),
        lambda: text(600),
        lambda: random.randbytes(some(600)),
        lambda: None,
        lambda: [value(level + 1) for _ in range(random.randint(0, 3))],
        lambda: table(level + 1),
    ]
    return random.choice(kinds if level < 4 else kinds[:-2])()


def argument(name):
    if name in BITS:
        return random.getrandbits(random.randint(1, BITS[name]))
    if name in FLAGS:
        return random.random() < 0.5
    if name in TABLES:
        return table()
    return text(600 if name in LONG_STRINGS else 255)


def pair(method):
    """The method with random arguments, and the content header that says which."""
    arguments = {name: argument(name) for name in parameters(method)}
    if "ticket" in arguments and method is not spec.Access.RequestOk:
        arguments["ticket"] = 0  # reserved
    given = {name: argument(name) for name in parameters(spec.BasicProperties) if random.random() < 0.3}
    given["headers"] = {RENAMED.get(name, name): value for name, value in arguments.items()}
    if "ticket" in arguments and method is not spec.Access.RequestOk:
        del given["headers"]["ticket"]
    channel = random.randrange(1, 1 << random.randint(1, 16))  # Content on channel 0 is a violation.
    yield frame.Method(channel, method(**arguments))
    yield frame.Header(channel, random.getrandbits(random.randint(1, 64)), spec.BasicProperties(**given))


methods = [method for of in members(spec, amqp_object.Class) for method in members(of, amqp_object.Method)]
frames = [frame for i in range(FRAMES // 2) for frame in pair(methods[i % len(methods)])]
Path(__file__).with_name("pika.frames").write_bytes(b"".join(frame.marshal() for frame in frames))
