"""aiokafka, a client for asyncio, as members of a group: see scenario.py. `BOOTSTRAP`"""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

import scenario


class Client:
    """Each call comes from a thread of scenario.py; all of aiokafka lives in one event loop, in a thread of its own."""

    def __init__(self, bootstrap, loop):
        self.bootstrap, self.loop, self.producer = bootstrap, loop, None

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def create(self, topic, partitions):
        self.call(self.create_topic(topic, partitions))

    def produce(self, topic, index):
        return self.call(self.send(topic, index))

    def consume(self, member):
        self.call(self.run_member(member))

    def committed(self, group, topic):
        return self.call(self.committed_offsets(group, topic))

    def close(self):
        if self.producer is not None:
            self.call(self.producer.stop())

    async def create_topic(self, topic, partitions):
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        answer = await admin.create_topics([NewTopic(topic, partitions, 1)])
        await admin.close()
        for name, code, *_ in answer.topic_errors:
            if code != 0:
                raise RuntimeError(f"{name}: error {code}")

    async def send(self, topic, index):
        if self.producer is None:
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True)
            await producer.start()
            self.producer = producer
        key, value = scenario.key_of(index).encode(), scenario.value_of(index).encode()
        sent = await self.producer.send_and_wait(topic, key=key, value=value, headers=scenario.HEADERS)
        return sent.partition, sent.offset

    def new_consumer(self, group):
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=scenario.SESSION_MS,
            heartbeat_interval_ms=scenario.HEARTBEAT_MS,
            fetch_max_wait_ms=100,
        )

    async def run_member(self, member):
        consumer = self.new_consumer(member.group)
        consumer.subscribe([member.topic], listener=Listener(member, consumer))
        await consumer.start()
        while not member.stopping.is_set():
            fetched = await consumer.getmany(timeout_ms=100)
            for records in fetched.values():
                for found in records:
                    where = (found.partition, found.offset)
                    scenario.say_record(member.name, *where, found.key, found.value, found.headers)
            if fetched:
                positions = {partition: records[-1].offset + 1 for partition, records in fetched.items()}
                await self.commit(consumer, member, positions)
        await consumer.stop()

    async def commit(self, consumer, member, positions):
        """Until it works: there is no later commit that would make up for it when no more records come."""
        deadline = self.loop.time() + scenario.DEADLINE_SECONDS
        while self.loop.time() < deadline:
            try:
                await consumer.commit(positions)
            except KafkaError as error:
                scenario.complain(f"commit: {error!r}")
                if not set(positions) <= consumer.assignment():
                    return  # they are another member's now, which reads them again
                await asyncio.sleep(0.1)
                continue
            for partition, offset in positions.items():
                scenario.say("committed", member=member.name, partition=partition.partition, offset=offset)
            return

    async def committed_offsets(self, group, topic):
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        found = await admin.list_consumer_group_offsets(group)
        await admin.close()
        return {place.partition: position.offset for place, position in found.items() if place.topic == topic}


class Listener(ConsumerRebalanceListener):
    def __init__(self, member, consumer):
        self.member, self.consumer = member, consumer

    async def on_partitions_revoked(self, revoked):
        self.member.holds([])

    async def on_partitions_assigned(self, assigned):
        self.member.holds(partition.partition for partition in assigned)


async def main():
    await asyncio.to_thread(scenario.serve, Client(sys.argv[1], asyncio.get_running_loop()))


if __name__ == "__main__":
    asyncio.run(main())
