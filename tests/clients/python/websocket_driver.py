"""A WebSocket client that does what it is told: websocket-client from PyPI, driven line by line.

    websocket_driver.py URL [SUBPROTOCOL]

Each line of standard input is sent as a frame of text; "@hex 00ff" is a frame of bytes, "@text ff" a frame of text with these
bytes, "@close" closes. With "@wait" as the first line nothing is read before "@read".

Prints each frame as it came, one a line; bytes as {"type": "bytes", "hex": ...}, the end as {"type": "closed", "code": ...}, or
{"type": "lost"} when the connection was cut.
"""

import json
import sys
import threading

import websocket

protocol = sys.argv[2] if len(sys.argv) > 2 else "capek.v1.json"
socket = websocket.create_connection(sys.argv[1], timeout=90, subprotocols=[protocol], enable_multithread=True)
may_read = threading.Event()


def show(frame):
    print(frame if isinstance(frame, str) else json.dumps(frame), flush=True)


def read():
    may_read.wait()
    while True:
        try:
            opcode, data = socket.recv_data()
        except (websocket.WebSocketException, OSError):
            return show({"type": "lost"})
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return show({"type": "closed", "code": int.from_bytes(data[:2], "big"), "reason": data[2:].decode()})
        if opcode == websocket.ABNF.OPCODE_BINARY:
            show({"type": "bytes", "hex": data.hex()})
        else:
            show(data.decode())


reader = threading.Thread(target=read, daemon=True)
reader.start()
for number, line in enumerate(sys.stdin):
    line = line.rstrip("\n")
    if number == 0 and line == "@wait":
        continue
    may_read.set()
    command, _, argument = line.partition(" ")
    try:
        if command == "@hex":
            socket.send(bytes.fromhex(argument), opcode=websocket.ABNF.OPCODE_BINARY)
        elif command == "@text":
            socket.send(bytes.fromhex(argument), opcode=websocket.ABNF.OPCODE_TEXT)
        elif command == "@close":
            socket.close()
        elif command != "@read":
            socket.send(line)
    except (websocket.WebSocketException, OSError):
        pass  # the reader tells of it
reader.join()
