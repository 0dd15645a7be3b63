"""kafka-python, a client in pure Python, as members of a group: see scenario.py. `BOOTSTRAP`"""

import sys

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError

import scenario

# A poll that times out just when the answer to SyncGroup is there throws the assignment away, and the client never joins again
# by itself (seen with 3.0.12). It returns as soon as there are records: that it be long costs a moment when a member leaves.
POLL_MS = 2_000


class Client:
    def __init__(self, bootstrap):
        self.bootstrap, self.producer = bootstrap, None

    def create(self, topic, partitions):
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        admin.create_topics([NewTopic(topic, partitions, 1)])
        admin.close()

    def produce(self, topic, index):
        if self.producer is None:
            self.producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", retries=100)
        key, value = scenario.key_of(index).encode(), scenario.value_of(index).encode()
        sent = self.producer.send(topic, key=key, value=value, headers=scenario.HEADERS).get(scenario.DEADLINE_SECONDS)
        return sent.partition, sent.offset

    def new_consumer(self, group):
        return KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=scenario.SESSION_MS,
            heartbeat_interval_ms=scenario.HEARTBEAT_MS,
            fetch_max_wait_ms=100,
            reconnect_backoff_max_ms=500,
        )

    def consume(self, member):
        consumer = self.new_consumer(member.group)
        # The end of what was printed and not committed. It polls until there is none: a commit that a rebalance or the end of its
        # session has refused only works once it has joined again.
        uncommitted = {}
        consumer.subscribe([member.topic], listener=Listener(member, consumer, uncommitted))
        while uncommitted or not member.stopping.is_set():
            try:
                fetched = consumer.poll(timeout_ms=POLL_MS)
            except KafkaError as error:  # the broker is gone
                scenario.complain(f"poll: {error!r}")
                member.stopping.wait(0.1)
                continue
            for records in fetched.values():
                for found in records:
                    where = (found.partition, found.offset)
                    scenario.say_record(member.name, *where, found.key, found.value, found.headers)
                    uncommitted[found.partition] = found.offset + 1
            if not uncommitted:
                continue
            try:
                committed = self.commit(consumer, member)
            except KafkaError as error:  # a rebalance or a broker that is gone: the next turn makes up for it
                scenario.complain(f"commit: {error!r}")
                continue
            for partition, offset in committed.items():
                if uncommitted.get(partition, offset) <= offset:
                    uncommitted.pop(partition, None)
        consumer.close()

    def commit(self, consumer, member):
        positions = {partition.partition: consumer.position(partition) for partition in consumer.assignment()}
        consumer.commit()
        for partition, offset in positions.items():
            scenario.say("committed", member=member.name, partition=partition, offset=offset)
        return positions

    def committed(self, group, topic):
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        found = admin.list_group_offsets([group])[group]
        admin.close()
        return {place.partition: position.offset for place, position in found.items() if place.topic == topic}

    def close(self):
        if self.producer is not None:
            self.producer.close()


class Listener(ConsumerRebalanceListener):
    def __init__(self, member, consumer, uncommitted):
        self.member, self.consumer, self.uncommitted = member, consumer, uncommitted

    def on_partitions_revoked(self, revoked):
        self.member.holds([])

    def on_partitions_assigned(self, assigned):
        held = {partition.partition for partition in self.consumer.assignment()}
        # Whoever holds the others now reads them again from where they were committed.
        for partition in self.uncommitted.keys() - held:
            del self.uncommitted[partition]
        self.member.holds(held)


if __name__ == "__main__":
    scenario.serve(Client(*sys.argv[1:]))
