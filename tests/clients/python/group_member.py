"""A member of a consumer group, with librdkafka as Python's confluent-kafka wraps it.

    group_member.py BOOTSTRAP GROUP PROTOCOL TOPICS [NAME=VALUE]...

PROTOCOL is classic or consumer, TOPICS a name, names with commas, or a pattern that begins with ^. It says

    assigned TOPIC-PARTITION...                      after each change, everything that it has
    record TOPIC PARTITION OFFSET VALUE              once it is committed

until its standard input closes; then it leaves the group and says "left".
"""

import sys
import threading

from confluent_kafka import Consumer, KafkaError, KafkaException


def main():
    bootstrap, group, protocol, topics, *more = sys.argv[1:]
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "group.protocol": protocol,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "topic.metadata.refresh.interval.ms": 1000,
    }
    if protocol == "classic":
        settings["partition.assignment.strategy"] = "range"
    settings.update(setting.split("=", 1) for setting in more)
    consumer = Consumer(settings)
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    assigned = set()

    def tell():
        say("assigned " + " ".join(sorted(f"{topic}-{partition}" for topic, partition in assigned)))

    def on_assign(_, partitions):
        assigned.update((one.topic, one.partition) for one in partitions)
        tell()

    def on_revoke(_, partitions):
        assigned.difference_update((one.topic, one.partition) for one in partitions)
        tell()

    consumer.subscribe(topics.split(","), on_assign=on_assign, on_revoke=on_revoke, on_lost=on_revoke)
    while not is_over.is_set():
        message = consumer.poll(0.1)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise KafkaException(message.error())
        if is_committed(consumer, message):
            value = message.value().decode()
            say(f"record {message.topic()} {message.partition()} {message.offset()} {value}")
    consumer.close()
    say("left")


def is_committed(consumer, message):
    """Whoever has lost the partition meanwhile leaves the record to the next owner."""
    try:
        consumer.commit(message, asynchronous=False)
        return True
    except KafkaException as error:
        print(f"not committed: {error}", file=sys.stderr, flush=True)
        return False


def say(line):
    print(line, flush=True)


main()
