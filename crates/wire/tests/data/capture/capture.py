#!/usr/bin/env python3
"""Writes what a real Kafka answers to ../*.bin: one response frame a file, without its size.

    capture.py HOST:PORT    after Batches.java has run against that broker, which is new and has
                            auto.create.topics.enable=false

The requests are made by hand here, so that nothing of ours stands between the broker and the files. A file is called
KEY-vVERSION-NAME.bin; the test in ../../kafka_bytes.rs reads the key and the version from that name.
"""
import os
import socket
import struct
import sys

HOST, PORT = sys.argv[1].rsplit(":", 1)
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
NO_TAGS = b"\0"


def i8(n): return struct.pack(">b", n)
def i16(n): return struct.pack(">h", n)
def i32(n): return struct.pack(">i", n)
def i64(n): return struct.pack(">q", n)
def string(s): return i16(-1) if s is None else i16(len(s)) + s.encode()
def compact(s): return uvarint(0) if s is None else uvarint(len(s) + 1) + s.encode()
def array(items): return i32(len(items)) + b"".join(items)
def compact_array(items): return uvarint(len(items) + 1) + b"".join(items)
def either(flexible, s): return compact(s) if flexible else string(s)
def list_of(flexible, items): return compact_array(items) if flexible else array(items)
def tags(flexible): return NO_TAGS if flexible else b""


def uvarint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def call(key, version, flexible, body):
    header = i16(key) + i16(version) + i32(7) + string("capture") + tags(flexible)
    with socket.create_connection((HOST, int(PORT))) as s:
        s.sendall(i32(len(header + body)) + header + body)
        read = s.makefile("rb")
        return read.read(struct.unpack(">i", read.read(4))[0])


def save(key, version, name, flexible, body):
    answer = call(key, version, flexible, body)
    with open(f"{OUT}/{key}-v{version}-{name}.bin", "wb") as f:
        f.write(answer)
    return answer


for v in range(5):
    save(18, v, "ApiVersions", v >= 3, compact("capture") + compact("1") + NO_TAGS if v >= 3 else b"")

# A version that no Kafka has is answered in version 0.
with open(f"{OUT}/18-v0-ApiVersions-unsupported.bin", "wb") as f:
    f.write(call(18, 99, True, compact("capture") + compact("1") + NO_TAGS))

for v in range(14):
    flexible = v >= 9
    name = either(flexible, "capture-none")
    unknown = either(flexible, "unknown")
    ids = bytes(16) if v >= 10 else b""
    body = list_of(flexible, [ids + name + tags(flexible), ids + unknown + tags(flexible)])
    body += b"\0" if v >= 4 else b""  # allow_auto_topic_creation
    body += b"\1" if 8 <= v <= 10 else b""
    body += b"\1" if v >= 8 else b""
    answer = save(3, v, "Metadata", flexible, body + tags(flexible))
    if v == 13:
        at = answer.index(b"capture-none") + len("capture-none")
        none_id = answer[at:at + 16]

for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    topic = f"capture-{codec}"
    v = 11
    partition = i32(0) + i32(-1) + i64(0) + i64(-1) + i32(1 << 20)
    body = i32(-1) + i32(500) + i32(1) + i32(1 << 20) + i8(0) + i32(0) + i32(-1)
    body += array([string(topic) + array([partition])]) + array([]) + string("")
    fetched = save(1, v, f"Fetch-{codec}", False, body)

for v in [4, 5, 7, 9, 12, 13, 16, 18]:
    flexible = v >= 12
    partition = i32(0) + (i32(-1) if v >= 9 else b"") + i64(0) + (i32(-1) if v >= 12 else b"")
    partition += (i64(-1) if v >= 5 else b"") + i32(1 << 20) + tags(flexible)
    topic = none_id if v >= 13 else either(flexible, "capture-none")
    topics = list_of(flexible, [topic + list_of(flexible, [partition]) + tags(flexible)])
    body = (b"" if v >= 15 else i32(-1)) + i32(500) + i32(1) + i32(1 << 20) + i8(1)
    body += i32(0) + i32(-1) if v >= 7 else b""
    body += topics
    body += list_of(flexible, []) if v >= 7 else b""
    body += either(flexible, "") if v >= 11 else b""
    save(1, v, "Fetch", flexible, body + tags(flexible))

for v in range(1, 12):
    flexible = v >= 6
    partition = i32(0) + (i32(-1) if v >= 4 else b"") + i64(-1) + tags(flexible)
    missing = i32(9) + (i32(-1) if v >= 4 else b"") + i64(-1) + tags(flexible)
    topics = list_of(flexible, [either(flexible, "capture-none") + list_of(flexible, [partition, missing]) + tags(flexible)])
    body = i32(-1) + (i8(0) if v >= 2 else b"") + topics + (i32(1000) if v >= 10 else b"") + tags(flexible)
    save(2, v, "ListOffsets", flexible, body)

# The batch that was fetched is sent again. A broken copy of it shows the error, and the partition that is not there too.
v11 = open(f"{OUT}/1-v11-Fetch-none.bin", "rb").read()
size = len(v11)
start = next(i for i in range(size - 61) if v11[i + 16] == 2 and struct.unpack(">i", v11[i + 8:i + 12])[0] == size - i - 12)
batch = bytearray(v11[start:])
batch[43:57] = i64(-1) + i16(-1) + i32(-1)  # no producer: the broker does not take it for a repetition
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)
crc = 0xFFFFFFFF
for b in batch[21:]:
    crc = TABLE[(crc ^ b) & 0xFF] ^ crc >> 8
batch[17:21] = struct.pack(">I", crc ^ 0xFFFFFFFF)
broken = bytes(batch[:17]) + b"\0\0\0\0" + bytes(batch[21:])
for v in range(3, 14):
    flexible = v >= 9
    def data(b): return (uvarint(len(b) + 1) if flexible else i32(len(b))) + bytes(b)
    partitions = [i32(0) + data(batch) + tags(flexible), i32(9) + data(batch) + tags(flexible)]
    topic = none_id if v >= 13 else either(flexible, "capture-none")
    body = either(flexible, None) + i16(-1) + i32(3000)
    body += list_of(flexible, [topic + list_of(flexible, partitions) + tags(flexible)]) + tags(flexible)
    save(0, v, "Produce", flexible, body)
    partitions = [i32(0) + data(broken) + tags(flexible)]
    body = either(flexible, None) + i16(-1) + i32(3000)
    body += list_of(flexible, [topic + list_of(flexible, partitions) + tags(flexible)]) + tags(flexible)
    save(0, v, "Produce-corrupt", flexible, body)

for v in range(1, 5):
    flexible = v >= 4
    resource = i8(2) + either(flexible, "capture-none") + list_of(flexible, [either(flexible, "retention.ms")]) + tags(flexible)
    body = list_of(flexible, [resource]) + b"\1" + (b"\1" if v >= 3 else b"") + tags(flexible)
    save(32, v, "DescribeConfigs", flexible, body)

for v in range(3):
    body = b"\1" + (i8(1) if v >= 1 else b"") + (b"\0" if v >= 2 else b"") + NO_TAGS
    save(60, v, "DescribeCluster", True, body)

save(75, 0, "DescribeTopicPartitions", True, compact_array([compact("capture-none") + NO_TAGS]) + i32(10) + i8(-1) + NO_TAGS)

for v in range(6):
    flexible = v >= 2
    body = either(flexible, None) + i32(60000) + (i64(-1) + i16(-1) if v >= 3 else b"") + tags(flexible)
    save(22, v, "InitProducerId", flexible, body)
