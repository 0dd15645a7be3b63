//! JSON values that follow each other in a stream, cut apart as they come: where the next one ends, and nothing more.
//!
//! ```text
//!   {"value":1} {"value":2}{"val          what is whole is given out at once, the rest waits for more
//!   └─ value ─┘ └─ value ─┘└─ rest
//! ```

use bytes::{Buf, Bytes, BytesMut};

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
    /// How far the first value in the buffer has been looked at.
    scanned: usize,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    has_begun: bool,
}

impl Splitter {
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// What is held for a value that is not whole yet.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next value that has come to its end. Whether it is JSON is for its reader to find.
    pub fn next_value(&mut self) -> Option<Bytes> {
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            if self.is_in_string {
                self.scanned += 1;
                self.step_in_string(byte);
                if !self.is_in_string && self.depth == 0 {
                    return Some(self.cut());
                }
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' if !self.has_begun => self.buffer.advance(1),
                b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => return Some(self.cut()),
                // A number or a word ends where something else begins.
                b'"' | b'{' | b'[' if self.has_begun && self.depth == 0 => return Some(self.cut()),
                _ => {
                    self.has_begun = true;
                    self.scanned += 1;
                    match byte {
                        b'"' => self.is_in_string = true,
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => {
                            self.depth = self.depth.saturating_sub(1);
                            if self.depth == 0 {
                                return Some(self.cut());
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        None
    }

    /// The stream is over: what is left is the last value, whole or not.
    pub fn last_value(&mut self) -> Option<Bytes> {
        let whole = self.next_value();
        whole.or_else(|| self.has_begun.then(|| self.cut()))
    }

    fn step_in_string(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => self.is_in_string = false,
            _ => {}
        }
    }

    fn cut(&mut self) -> Bytes {
        let value = self.buffer.split_to(self.scanned).freeze();
        let buffer = std::mem::take(&mut self.buffer);
        *self = Splitter { buffer, ..Splitter::default() };
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&str]) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut values = Vec::new();
        for chunk in chunks {
            splitter.push(chunk.as_bytes());
            while let Some(value) = splitter.next_value() {
                values.push(value);
            }
        }
        while let Some(value) = splitter.last_value() {
            values.push(value);
        }
        values.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    #[test]
    fn values_are_cut_apart_wherever_the_chunks_end() {
        let text = "{\"a\":{\"b\":[1,\"}\\\"{\"]}} \r\n{\"c\":2}[1]\"x\" 12 true{}";
        let expected = ["{\"a\":{\"b\":[1,\"}\\\"{\"]}}", "{\"c\":2}", "[1]", "\"x\"", "12", "true", "{}"];
        for size in 1..text.len() {
            let chunks: Vec<&str> =
                (0..text.len()).step_by(size).map(|at| &text[at..text.len().min(at + size)]).collect();
            assert_eq!(split(&chunks), expected, "in chunks of {size}");
        }
    }

    #[test]
    fn a_value_is_given_out_before_the_next_one_begins() {
        let mut splitter = Splitter::default();
        splitter.push(b"{\"a\":1}");
        assert_eq!(splitter.next_value().as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!((splitter.next_value(), splitter.held_bytes()), (None, 0));
    }

    #[test]
    fn what_is_not_whole_is_given_out_at_the_end_only() {
        let mut splitter = Splitter::default();
        splitter.push(b" {\"a\":");
        assert_eq!(splitter.next_value(), None);
        assert_eq!(splitter.last_value().as_deref(), Some(&b"{\"a\":"[..]));
        assert_eq!(splitter.last_value(), None);
        assert_eq!(split(&["}"]), ["}"], "for its reader to refuse");
    }
}
