//! The smallest HTTP client that reads our own endpoints: one GET, one answer, the connection closes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Exit, Failure};

/// No answer of ours is longer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Gets `path` from `base`, which is `http://host:port` or `host:port`.
pub async fn get(base: &str, path: &str, timeout: Duration) -> Result<Answer, Failure> {
    let address = base.strip_prefix("http://").unwrap_or(base).trim_end_matches('/');
    if base.starts_with("https://") {
        return Err(Failure::usage("https:// is not supported here: use http://"));
    }
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let connection =
        |error: std::io::Error| Failure::new(Exit::Connection, format!("cannot reach http://{address}: {error}"));
    match tokio::time::timeout(timeout, exchange).await {
        Ok(bytes) => parse(&bytes.map_err(connection)?)
            .ok_or_else(|| Failure::new(Exit::Connection, format!("{address} does not answer in HTTP"))),
        Err(_) => Err(Failure::new(Exit::TimedOut, format!("http://{address} did not answer within {timeout:?}"))),
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = head.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    let body = &bytes[end + 4..];
    let body = if is_chunked { unchunk(body)? } else { body.to_vec() };
    Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line_end = body.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&body[..line_end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let chunk = body.get(line_end + 2..)?.get(..size)?;
        whole.extend_from_slice(chunk);
        body = body.get(line_end + 2 + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_and_chunked() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
        let answer =
            parse(b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "abcde"));
        assert!(parse(b"\x00\x00").is_none());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc").is_none());
    }
}
