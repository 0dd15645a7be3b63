"""What the programs in Python that hold members of a group share. Commands come on standard input, one a line:

    create TOPIC PARTITIONS         through the client's own admin interface
    produce TOPIC FIRST COUNT       records FIRST.. one after the other, each sent again until it is confirmed
    join MEMBER GROUP TOPIC         one more member of a group; it commits what it has printed
    leave MEMBER                    it commits where it stands and leaves
    committed GROUP TOPIC           what the group has committed
    (end of input)                  all leave

Events go to standard output as JSON lines, each with "event": created, produced (partition, offset, value), assigned (member,
partitions: all that it holds now), record (member, partition, offset, key, value, headers), committed (member, partition, offset),
left (member), offsets (offsets). The programs in other languages do the same.
"""

import json
import sys
import threading
import time

DEADLINE_SECONDS = 60
HEADERS = [("trace", b"1"), ("trace", b"again")]
# A second member is to notice a rebalance soon; a broker that is started again has to be back within the session.
HEARTBEAT_MS = 300
SESSION_MS = 10_000


def say(event, **more):
    line = json.dumps({"event": event, **more}) + "\n"
    sys.stdout.write(line)  # one call: lines of several threads do not mix
    sys.stdout.flush()


def complain(what):
    print(what, file=sys.stderr, flush=True)


def key_of(index):
    return f"key-{index % 10}"


def value_of(index):
    return f"value-{index}"


def text_of_headers(headers):
    return ",".join(f"{name}={'null' if value is None else value.decode()}" for name, value in headers or [])


def say_record(member, partition, offset, key, value, headers):
    say(
        "record",
        member=member,
        partition=partition,
        offset=offset,
        key=key.decode(),
        value=value.decode(),
        headers=text_of_headers(headers),
    )


def until_it_works(what, attempt):
    """For what a broker that is being started again refuses."""
    deadline = time.time() + DEADLINE_SECONDS
    while True:
        try:
            return attempt()
        except Exception as error:  # each client has its own; the deadline tells those that stay
            complain(f"{what}: {error!r}")
            if time.time() > deadline:
                sys.exit(f"{what} did not work in time")
            time.sleep(0.1)


class Member(threading.Thread):
    """One member: `consume(member)` runs in a thread of its own until `stopping` is set."""

    def __init__(self, name, group, topic, consume):
        super().__init__(daemon=True)
        self.name, self.group, self.topic, self.consume = name, group, topic, consume
        self.stopping = threading.Event()
        self.wake = lambda: None  # for a client that waits for something else than `stopping`
        self.start()

    def run(self):
        try:
            self.consume(self)
        except BaseException as error:
            complain(f"member {self.name}: {error!r}")
            raise
        say("left", member=self.name)

    def holds(self, partitions):
        say("assigned", member=self.name, partitions=sorted(partitions))

    def leave(self):
        self.stopping.set()
        self.wake()
        self.join()


def serve(client):
    """`client` has create(topic, partitions), produce(topic, index), consume(member), committed(group, topic) and close()."""
    members = {}
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "create":
            until_it_works("create", lambda: client.create(arguments[0], int(arguments[1])))
            say("created")
        elif command == "produce":
            topic, first, count = arguments[0], int(arguments[1]), int(arguments[2])
            for index in range(first, first + count):
                partition, offset = until_it_works("produce", lambda: client.produce(topic, index))
                say("produced", partition=partition, offset=offset, value=value_of(index))
        elif command == "join":
            members[arguments[0]] = Member(*arguments, client.consume)
        elif command == "leave":
            members.pop(arguments[0]).leave()
        elif command == "committed":
            offsets = until_it_works("committed", lambda: client.committed(*arguments))
            say("offsets", offsets={str(partition): offset for partition, offset in offsets.items()})
        else:
            sys.exit(f"unknown command {command}")
    for member in members.values():
        member.leave()
    client.close()
