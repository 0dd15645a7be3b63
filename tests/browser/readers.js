// Runs in a page. `read(broker, topic)` reads a topic of numbered values twice, from its beginning and for ever: with an EventSource,
// which comes back by itself, and with a WebSocket that is opened again with the token of the last records that came.

window.read = (broker, topic) => {
  window.events = readEvents(`${broker}/v1/topics/${topic}/sse?from=earliest`)
  window.sockets = readFrames(`${broker}/v1/topics/${topic}/ws`.replace("http", "ws"))
}

const newReader = () => ({ seen: [], opened: 0, gaps: 0, isClosed: false })

function readEvents(url) {
  const reader = newReader()
  const source = new EventSource(url)
  source.onopen = () => reader.opened++
  source.onmessage = ({ data }) => {
    const { partition, offset, value } = JSON.parse(data)
    reader.seen.push([partition, offset, value.n])
  }
  source.addEventListener("gap", () => reader.gaps++)
  // What a browser does not try again, it has closed.
  source.onerror = () => reader.isClosed = source.readyState == EventSource.CLOSED
  return reader
}

function readFrames(url) {
  const AGAIN_AFTER_MS = 200
  const reader = newReader()
  let place = "from=earliest"
  const open = () => {
    const socket = new WebSocket(`${url}?include=resume&${place}`)
    socket.onopen = () => reader.opened++
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data)
      if (frame.type == "gap" || frame.type == "error") reader.gaps++
      if (frame.type != "records") return
      for (const record of frame.records) reader.seen.push([frame.partition, record.offset, record.value.n])
      place = `resume=${encodeURIComponent(frame.resume)}`
      socket.send(JSON.stringify({ type: "credit", sub: frame.sub, records: frame.records.length, bytes: frame.bytes }))
    }
    socket.onclose = () => setTimeout(open, AGAIN_AFTER_MS)
  }
  open()
  return reader
}
