"""A WebSocket consumer that we did not write: websocket-client from PyPI.

    websocket_client.py URL COUNT [STALL_SECONDS]

Prints every frame as it came, one a line, until COUNT records were seen; returns credit for what it has read.
With STALL_SECONDS it reads nothing for so long after the subscription.
"""

import json
import sys
import time

import websocket

url, count = sys.argv[1], int(sys.argv[2])
stall_seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0
socket = websocket.create_connection(url, timeout=30, subprotocols=["capek.v1.json"])
if stall_seconds:
    time.sleep(stall_seconds)
seen = 0
while seen < count:
    text = socket.recv()
    print(text, flush=True)
    frame = json.loads(text)
    if frame["type"] == "records":
        seen += len(frame["records"])
        used_bytes = len(text)
        socket.send(
            json.dumps(
                {"type": "credit", "sub": frame["sub"], "records": len(frame["records"]), "bytes": used_bytes}
            )
        )
    elif frame["type"] == "error":
        sys.exit(1)
socket.close()
