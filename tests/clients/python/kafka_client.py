"""librdkafka as Python's confluent-kafka wraps it: one program, a subcommand for each thing that a test asks of it.

    produce BOOTSTRAP TOPIC COUNT CODEC      idempotent, headers that repeat; a JSON line for each confirmed record
    consume BOOTSTRAP TOPIC FROM COUNT       FROM: earliest | latest | offset:N | timestamp:MS; a JSON line for each record
    load BOOTSTRAP TOPIC PARTITIONS FILE     produces unique values until its standard input closes; confirmed ones go to FILE
    keyed BOOTSTRAP TOPIC KEYS FILE          as load, with keys and tombstones; "OFFSET KEY VALUE" to FILE, - for a tombstone
    drain BOOTSTRAP TOPIC                    "PARTITION OFFSET VALUE" for all that the topic holds
"""

import json
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, Producer, TopicPartition

FIRST_TIMESTAMP_MS = 1_700_000_000_000
DEADLINE_SECONDS = 60


def main():
    command, arguments = sys.argv[1], sys.argv[2:]
    {"produce": produce, "consume": consume, "load": load, "keyed": keyed, "drain": drain}[command](*arguments)


def say(line):
    print(line if isinstance(line, str) else json.dumps(line), flush=True)


def produce(bootstrap, topic, count, codec):
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": codec, "linger.ms": 20}
    )

    failed = []

    def delivered(error, message):
        if error is not None:
            return failed.append(error)
        say({"partition": message.partition(), "offset": message.offset()})

    for index in range(int(count)):
        producer.produce(
            topic,
            key=f"key-{index}",
            value=f"value-{index}-" + "x" * 100,
            headers=[("trace", f"{index}"), ("trace", "again"), ("empty", b""), ("null", None)],
            timestamp=FIRST_TIMESTAMP_MS + index * 1000,
            on_delivery=delivered,
        )
    if producer.flush(DEADLINE_SECONDS) > 0:
        sys.exit("some records were not answered in time")
    if failed:
        sys.exit(f"not delivered: {failed[0].name()} {failed[0]}")


def new_consumer(bootstrap, **more):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "assigned-by-hand",  # the client demands one; it is neither joined nor committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "check.crcs": True,
            "auto.offset.reset": "error",
            **more,
        }
    )


def partitions_of(consumer, topic):
    deadline = time.time() + DEADLINE_SECONDS
    while time.time() < deadline:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        if found.error is None and found.partitions:
            return sorted(found.partitions)
        time.sleep(0.1)
    sys.exit(f"no metadata of {topic}: {found.error}")


def start_positions(consumer, topic, start):
    partitions = partitions_of(consumer, topic)
    kind, _, argument = start.partition(":")
    if kind == "timestamp":
        asked = [TopicPartition(topic, partition, int(argument)) for partition in partitions]
        return consumer.offsets_for_times(asked, timeout=10)
    offset = {"earliest": OFFSET_BEGINNING, "latest": OFFSET_END}.get(kind)
    if offset is None:
        offset = int(argument)
    return [TopicPartition(topic, partition, offset) for partition in partitions]


def consume(bootstrap, topic, start, count):
    consumer = new_consumer(bootstrap)
    positions = start_positions(consumer, topic, start)
    consumer.assign(positions)
    at_end, seen, deadline = set(), 0, time.time() + DEADLINE_SECONDS
    while seen < int(count):
        if time.time() > deadline:
            sys.exit(f"saw {seen} of {count} records in time")
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error() is not None:
            if message.error().name() != "_PARTITION_EOF":
                sys.exit(f"consuming failed: {message.error()}")
            at_end.add(message.partition())
            if start == "latest" and len(at_end) == len(positions) and seen == 0:
                say({"ready": True})
            continue
        seen += 1
        say(
            {
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp": message.timestamp()[1],
                "key": text(message.key()),
                "value": text(message.value()),
                "headers": [[key, text(value)] for key, value in message.headers() or []],
            }
        )
    consumer.close()


def text(raw):
    return None if raw is None else raw.decode()


def patient_producer(bootstrap):
    """It retries for two minutes, so that each round's kill is survived by one producer."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 1,
            "message.timeout.ms": 120_000,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
            "retry.backoff.ms": 20,
            "queue.buffering.max.messages": 500,
            "log_level": 2,
            "error_cb": lambda error: error.fatal() and say(f"fatal: {error}"),
        }
    )


def until_input_closes():
    stopping = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stopping.set()), daemon=True).start()
    return stopping


def keyed(bootstrap, topic, keys, confirmed_path):
    """Values of a kilobyte for a few keys, in no order; every twentieth record is a tombstone."""
    producer, stopping, failed = patient_producer(bootstrap), until_input_closes(), []
    with open(confirmed_path, "a", buffering=1) as confirmed:

        def delivered(error, message):
            if error is not None:
                return failed.append(str(error))
            value = "-" if message.value() is None else text(message.value()).split(":")[0]
            confirmed.write(f"{message.offset()} {text(message.key())} {value}\n")

        index = 0
        while not stopping.is_set():
            value = None if index % 20 == 7 else f"{index}:" + "x" * 1000
            try:
                producer.produce(topic, key=f"key-{index * 7919 % int(keys)}", value=value, on_delivery=delivered)
                index += 1
            except BufferError:
                producer.poll(0.01)
                continue
            producer.poll(0)
            if index % 10 == 0:
                time.sleep(0.004)  # a segment in half a second: the cleaner shall keep up
        waiting = producer.flush(DEADLINE_SECONDS)
    say({"sent": index, "waiting": waiting, "failed": len(failed), "errors": sorted(set(failed))[:3]})


def load(bootstrap, topic, partitions, confirmed_path):
    """The load of the crash tests."""
    producer, stopping = patient_producer(bootstrap), until_input_closes()
    unconfirmed = []

    with open(confirmed_path, "a", buffering=1) as confirmed:

        def delivered(error, message):
            if error is None:
                confirmed.write(f"{message.partition()} {message.offset()} {message.value().decode()}\n")
            else:
                unconfirmed.append(str(error))

        index = 0
        while not stopping.is_set():
            try:
                producer.produce(
                    topic, value=f"{index}", partition=index % int(partitions), on_delivery=delivered
                )
                index += 1
            except BufferError:
                producer.poll(0.01)
                continue
            # A steady stream of small batches, not the most that the broker can take: the kill shall hit many requests.
            producer.poll(0.001 if index % 10 == 0 else 0)
        waiting = producer.flush(DEADLINE_SECONDS)
    say({"sent": index, "waiting": waiting, "failed": len(unconfirmed), "errors": sorted(set(unconfirmed))[:3]})


def drain(bootstrap, topic):
    consumer = new_consumer(bootstrap)
    positions = start_positions(consumer, topic, "earliest")
    consumer.assign(positions)
    at_end, deadline = set(), time.time() + DEADLINE_SECONDS
    lines = []
    while len(at_end) < len(positions):
        if time.time() > deadline:
            sys.exit("the end was not reached in time")
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error() is None:
            lines.append(f"{message.partition()} {message.offset()} {text(message.value())}")
        elif message.error().name() == "_PARTITION_EOF":
            at_end.add(message.partition())
        else:
            sys.exit(f"consuming failed: {message.error()}")
    consumer.close()
    sys.stdout.write("".join(line + "\n" for line in lines))


main()
