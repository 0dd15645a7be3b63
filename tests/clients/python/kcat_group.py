"""kcat -G, librdkafka 2.0.2 at Debian's age, as members of a group, one process each: see scenario.py. `BOOTSTRAP`

kcat commits by itself and knows neither topic creation (it asks for metadata, and the broker makes the topic with its
`num.partitions`) nor what a group has committed (confluent-kafka is asked).
"""

import re
import signal
import subprocess
import sys

import confluent_group
import scenario

REBALANCE = re.compile(r"% Group \S+ rebalanced \(memberid [^)]*\): (assigned|revoked): (.*)")


class Client:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def create(self, topic, partitions):
        listing = subprocess.run(
            ["kcat", "-L", "-b", self.bootstrap, "-t", topic, "-X", "allow.auto.create.topics=true"],
            capture_output=True, text=True, check=True,
        ).stdout
        if f'topic "{topic}" with {partitions} partitions' not in listing:
            raise RuntimeError(listing)

    def produce(self, topic, index):
        headers = [f"-H{name}={value.decode()}" for name, value in scenario.HEADERS]
        report = subprocess.run(
            ["kcat", "-E", "-P", "-b", self.bootstrap, "-t", topic, "-k", scenario.key_of(index), "-v", "-v", *headers,
             "-X", "acks=all", "-X", "message.timeout.ms=60000"],
            input=scenario.value_of(index), capture_output=True, text=True, check=True,
        ).stderr
        found = re.search(r"Message delivered to partition (\d+) \(offset (\d+)\)", report)
        if found is None:
            raise RuntimeError(report)
        return int(found[1]), int(found[2])

    def consume(self, member):
        held = set()
        process = subprocess.Popen(
            ["kcat", "-E", "-b", self.bootstrap, "-u", "-f", "record\t%p\t%o\t%k\t%s\t%h\n",
             "-X", f"session.timeout.ms={scenario.SESSION_MS}", "-X", f"heartbeat.interval.ms={scenario.HEARTBEAT_MS}",
             "-X", "auto.commit.interval.ms=100", "-X", "auto.offset.reset=earliest", "-X", "fetch.wait.max.ms=100",
             "-G", member.group, member.topic],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        member.wake = lambda: process.send_signal(signal.SIGTERM)
        for line in process.stdout:
            rebalance = REBALANCE.match(line)
            if line.startswith("record\t"):
                _, partition, offset, key, value, headers = line.rstrip("\n").split("\t")
                scenario.say("record", member=member.name, partition=int(partition), offset=int(offset), key=key,
                             value=value, headers=headers)
            elif rebalance:
                partitions = {int(number) for number in re.findall(r"\[(\d+)\]", rebalance[2])}
                held = held | partitions if rebalance[1] == "assigned" else held - partitions
                member.holds(held)
            elif not line.startswith("% Reached end of topic"):
                scenario.complain(f"kcat {member.name}: {line.rstrip()}")
        if process.wait() != 0:
            raise RuntimeError(f"kcat ended with {process.returncode}")

    def committed(self, group, topic):
        return confluent_group.Client(self.bootstrap).committed(group, topic)

    def close(self):
        pass


if __name__ == "__main__":
    scenario.serve(Client(*sys.argv[1:]))
