"""Load on a cluster with librdkafka, and a history of it: two idempotent producers of unique values, one reader of everything,
and one that asks for the ends of the partitions.

    cluster_load.py BOOTSTRAP TOPIC PARTITIONS FILE [PADDING]

where each value gets ":" and PADDING bytes more, which the history does not show. It goes on until its standard input closes, then
says a line of JSON. FILE gets a line for each event, with the time in nanoseconds of a clock that only goes forward:

    S TIME VALUE PARTITION           given to the producer
    A TIME VALUE PARTITION OFFSET    confirmed; "-" when a later answer only showed that it is there
    E TIME VALUE ERROR               given up: nobody knows whether it is there
    R TIME PARTITION OFFSET VALUE    read
    H TIME TIME PARTITION OFFSET     when the end was asked for, when the answer came, and what it was
    X TIME TEXT                      an error of the reader, or the one that ended a producer
"""

import faulthandler
import json
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

DEADLINE_SECONDS = 60
PRODUCERS = 2
PAUSE_SECONDS = 0.004  # after ten records: a steady stream of small batches, so that a fault hits many requests
IMPATIENT = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 20,
    # A broker that was stopped in the middle answers nothing and hangs up on nobody: the default waits for it for a minute.
    "socket.timeout.ms": 5000,
    "log_level": 2,
}
RETRIABLE = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE")


class History:
    def __init__(self, path):
        self.file, self.lock = open(path, "a", buffering=1), threading.Lock()

    def add(self, kind, *words):
        line = " ".join([kind, str(time.monotonic_ns()), *map(str, words)]) + "\n"
        with self.lock:
            self.file.write(line)


def shown(message):
    return message.value().decode().split(":")[0]


def produce(name, bootstrap, topic, partitions, padding, history, stopping, totals):
    fatal = lambda error: error.fatal() and history.add("X", f"fatal: {error}".replace("\n", " "))
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 1,
            "message.timeout.ms": 120_000,
            "request.timeout.ms": 3000,  # a leader that reaches nobody says so then
            # Room for what one leader that reaches nobody does not confirm, so that other leaders go on being used: librdkafka asks
            # the broker that it used last for metadata, and that one's are as old as its isolation.
            "queue.buffering.max.messages": 500 if padding else 20_000,
            "topic.metadata.refresh.interval.ms": 1000,
            "error_cb": fatal,
            **IMPATIENT,
        }
    )

    def delivered(error, message):
        value = shown(message)
        if error is None:
            offset = message.offset()
            history.add("A", value, message.partition(), "-" if offset is None or offset < 0 else offset)
        else:
            history.add("E", value, error.name())
            totals["failed"].append(error.name())

    index = 0
    while not stopping.is_set():
        value, partition = f"{name}{index}", index % partitions
        history.add("S", value, partition)
        while True:
            try:
                producer.produce(topic, value=value + padding, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        index += 1
        producer.poll(0)
        if index % 10 == 0:
            time.sleep(PAUSE_SECONDS)
    totals["waiting"].append(producer.flush(DEADLINE_SECONDS))
    totals["sent"].append(index)


def produce_or_say_why_not(name, bootstrap, topic, partitions, padding, history, *rest):
    try:
        produce(name, bootstrap, topic, partitions, padding, history, *rest)
    except Exception as error:
        history.add("X", f"producer {name}: {error!r}".replace("\n", " "))


def new_consumer(bootstrap):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "assigned-by-hand",  # the client demands one; it is neither joined nor committed
            "enable.auto.commit": False,
            "check.crcs": True,
            "auto.offset.reset": "error",
            "topic.metadata.refresh.interval.ms": 1000,
            "fetch.wait.max.ms": 100,
            **IMPATIENT,
        }
    )


def read(bootstrap, topic, partitions, history, stopping):
    consumer = new_consumer(bootstrap)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    while not stopping.is_set():
        for message in consumer.consume(500, timeout=0.1):
            if message.error() is None:
                history.add("R", message.partition(), message.offset(), shown(message))
            elif message.error().name() not in RETRIABLE:
                history.add("X", str(message.error()).replace("\n", " "))
    consumer.close()


def ask_ends(bootstrap, topic, partitions, history, stopping):
    consumer = new_consumer(bootstrap)
    while not stopping.wait(0.05):
        for partition in range(partitions):
            asked = time.monotonic_ns()
            try:
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=1, cached=False)
            except KafkaException:
                continue  # no leader at the moment
            history.add("H", asked, partition, end)
    consumer.close()


def main():
    bootstrap, topic, partitions, path, *padding = sys.argv[1:]
    partitions, padding = int(partitions), ":" + "x" * int(padding[0]) if padding else ""
    history, stopping, over = History(path), threading.Event(), threading.Event()
    totals = {"sent": [], "waiting": [], "failed": []}
    common = (bootstrap, topic, partitions)
    threads = [
        threading.Thread(target=produce_or_say_why_not, args=(chr(97 + number), *common, padding, history, stopping, totals))
        for number in range(PRODUCERS)
    ]
    watchers = [threading.Thread(target=watch, args=(*common, history, over)) for watch in (read, ask_ends)]
    for thread in threads + watchers:
        thread.start()
    sys.stdin.read()
    stopping.set()
    # Whoever waits in vain for the line below is told where each thread stands.
    faulthandler.dump_traceback_later(DEADLINE_SECONDS + 20)
    for thread in threads:
        thread.join()
    over.set()
    for thread in watchers:
        thread.join()
    failed = sorted(set(totals["failed"]))
    counts = {"sent": sum(totals["sent"]), "waiting": sum(totals["waiting"]), "failed": len(totals["failed"])}
    print(json.dumps({**counts, "errors": failed, "whole": len(totals["sent"]) == PRODUCERS}), flush=True)


main()
