"""librdkafka as confluent-kafka wraps it, as members of a group: see scenario.py. `BOOTSTRAP [SETTING=VALUE...]`"""

import sys
import threading

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import scenario


class Client:
    def __init__(self, bootstrap, *settings):
        self.common = {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 500, "log_level": 2}
        self.settings = dict(setting.split("=", 1) for setting in settings)
        self.producer = Producer({**self.common, "enable.idempotence": True, "linger.ms": 0})

    def create(self, topic, partitions):
        admin = AdminClient(self.common)
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()

    def produce(self, topic, index):
        answered, answer = threading.Event(), []

        def delivered(error, message):
            answer.append((error, message))
            answered.set()

        key, value = scenario.key_of(index), scenario.value_of(index)
        self.producer.produce(topic, key=key, value=value, headers=scenario.HEADERS, on_delivery=delivered)
        while not answered.is_set():
            self.producer.poll(0.1)
        error, message = answer[0]
        if error is not None:
            raise KafkaException(error)
        return message.partition(), message.offset()

    def new_consumer(self, group):
        timing = {"session.timeout.ms": scenario.SESSION_MS, "heartbeat.interval.ms": scenario.HEARTBEAT_MS}
        if self.settings.get("group.protocol") == "consumer":
            timing = {}  # the broker decides
        return Consumer(
            {
                **self.common,
                **timing,
                **self.settings,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
            }
        )

    def consume(self, member):
        consumer, held = self.new_consumer(member.group), set()

        def assigned(_, partitions):
            held.update(partition.partition for partition in partitions)
            member.holds(held)

        def revoked(_, partitions):
            held.difference_update(partition.partition for partition in partitions)
            member.holds(held)

        consumer.subscribe([member.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        while not member.stopping.is_set():
            messages = [message for message in consumer.consume(50, timeout=0.1) if is_record(message)]
            for found in messages:
                where = (found.partition(), found.offset())
                scenario.say_record(member.name, *where, found.key(), found.value(), found.headers())
            if messages:
                self.commit(consumer, member)
        if held:
            scenario.until_it_works("the last commit", lambda: self.commit_or_raise(consumer, member))
        consumer.close()

    def commit(self, consumer, member):
        try:
            self.commit_or_raise(consumer, member)
        except KafkaException as error:  # a rebalance or a broker that is gone: the next commit makes up for it
            scenario.complain(f"commit: {error}")

    def commit_or_raise(self, consumer, member):
        positions = [position for position in consumer.position(consumer.assignment()) if position.offset >= 0]
        if not positions:
            return
        for done in consumer.commit(offsets=positions, asynchronous=False):
            if done.error is not None:
                raise KafkaException(done.error)
            scenario.say("committed", member=member.name, partition=done.partition, offset=done.offset)

    def committed(self, group, topic):
        consumer = self.new_consumer(group)
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        asked = [TopicPartition(topic, partition) for partition in sorted(partitions)]
        found = consumer.committed(asked, timeout=10)
        consumer.close()
        return {partition.partition: partition.offset for partition in found if partition.offset >= 0}

    def close(self):
        self.producer.flush()


def is_record(message):
    if message.error() is not None:
        scenario.complain(f"consume: {message.error()}")
    return message.error() is None


if __name__ == "__main__":
    scenario.serve(Client(*sys.argv[1:]))
