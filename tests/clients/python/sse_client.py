"""A Server-Sent Events consumer on Python's own HTTP client, reading as a browser's EventSource does.

    sse_client.py URL COUNT [LAST_EVENT_ID]

Prints {"id", "event", "data"} as JSON for each event until COUNT of type "message" were seen.
"""

import json
import sys
import urllib.request

url, count = sys.argv[1], int(sys.argv[2])
headers = {"Accept": "text/event-stream"}
if len(sys.argv) > 3:
    headers["Last-Event-ID"] = sys.argv[3]
response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
assert response.headers["Content-Type"].startswith("text/event-stream"), response.headers["Content-Type"]
event, seen = {}, 0
while seen < count:
    line = response.readline()
    if not line:
        sys.exit("the stream ended early")
    line = line.decode().rstrip("\r\n")
    if not line:
        if "data" in event:
            print(json.dumps({"id": None, "event": "message", **event}), flush=True)
            seen += event.get("event", "message") == "message"
        event = {}
        continue
    field, _, value = line.partition(":")
    value = value.removeprefix(" ")
    if field == "data":
        event["data"] = event["data"] + "\n" + value if "data" in event else value
    elif field in ("id", "event"):
        event[field] = value
