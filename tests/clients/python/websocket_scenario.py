"""A WebSocket consumer that uses the protocol in full: credit, seek, pause, bad frames, a gap, the broker's goodbye.

    websocket_scenario.py HOST:PORT TOPIC        the topic has five records and one partition

Prints "stop me" when the broker may be stopped; ends with success when all went as it should.
"""

import json
import sys
import urllib.request

import websocket

address, topic = sys.argv[1], sys.argv[2]


def produce(value):
    url = f"http://{address}/v1/topics/{topic}"
    urllib.request.urlopen(urllib.request.Request(url, data=value.encode(), headers={"Content-Type": "text/plain"}))


def send(frame):
    socket.send(frame if isinstance(frame, str) else json.dumps(frame))


def until(kind):
    while True:
        frame = json.loads(socket.recv())
        print(json.dumps(frame), file=sys.stderr)
        if frame["type"] == kind:
            return frame
        assert kind == "heartbeat" or frame["type"] != "records", f"records before {kind}"


def offsets(frame):
    return [record["offset"] for record in frame["records"]]


path = f"ws://{address}/v1/topics/{topic}/ws?from=earliest&credit_records=3&heartbeat_ms=1000"
socket = websocket.create_connection(path, timeout=20, subprotocols=["capek.v1.json"])
assert socket.getsubprotocol() == "capek.v1.json"
assert until("welcome")["heartbeat_ms"] == 1000
assert until("subscribed")["credit"]["records"] == 3
assert until("assigned")["partitions"] == [{"topic": topic, "partition": 0, "next": 0, "end": 5, "epoch": 0}]

# Credit of three records brings three records, and no more in a second.
assert offsets(until("records")) == [0, 1, 2]
frame = json.loads(socket.recv())
assert frame["type"] == "heartbeat" and frame["lag"] == {"1": 2}, frame
send({"type": "credit", "sub": 1, "records": 100, "id": 7})
assert until("done")["id"] == 7
assert offsets(until("records")) == [3, 4]
assert until("caught_up")["next"] == 5

produce("live")
assert until("records")["records"][0]["value"] == "live"

send({"type": "seek", "sub": 1, "to": [{"topic": topic, "partition": 0, "offset": 4}]})
assert until("assigned")["partitions"][0]["next"] == 4
assert offsets(until("records")) == [4, 5]
until("caught_up")

# What is not understood is told, and the connection stays.
send({"type": "dance", "id": 3})
assert until("error")["id"] == 3
send("nonsense")
until("error")
send({"type": "seek", "sub": 1, "to": [{"topic": topic, "partition": 9, "offset": 4}], "id": 4})
assert until("error")["id"] == 4

send({"type": "seek", "sub": 1, "to": [{"topic": topic, "partition": 0, "offset": 1000}]})
gap = until("gap")
assert (gap["requested"], gap["resumed"], gap["reason"]) == (1000, 6, "truncation"), gap
until("caught_up")

send({"type": "pause", "sub": 1, "id": 5})
until("done")
produce("paused")
send({"type": "ping", "t": 5})
assert until("pong")["t"] == 5
send({"type": "resume", "sub": 1})
assert until("records")["records"][0]["value"] == "paused"

print("stop me", flush=True)
goodbye = until("goodbye")
assert goodbye["code"] == 1012 and goodbye["reconnect_after_ms"] > 0, goodbye
opcode, payload = socket.recv_data()
assert opcode == websocket.ABNF.OPCODE_CLOSE and int.from_bytes(payload[:2], "big") == 1012, (opcode, payload)
print("done", flush=True)
