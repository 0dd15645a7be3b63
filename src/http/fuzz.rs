//! Random and damaged bodies, queries and ids into everything of HTTP that reads them, for `CAPEK_FUZZ_SECONDS` (1): each is
//! answered, none is a panic. A failure prints the seed that shows it again: `CAPEK_FUZZ_SEED`.

use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::query::QueryPairs;
use super::{rest_v2, rest_v3, stream, v1};

/// What each reader expects, to be damaged.
const SAMPLES: &[&str] = &[
    "key=a%20b&header.trace=1&partition=0&timestamp=5&acks=all&timeout_ms=1&limit=3&from=-1h&partitions=0,1",
    "{\"n\":1}\n{\"text\":\"\\u00e9\\ud83d\\ude00\"}\r\n\n[1,2.5e300,null,true]\n",
    "name,\"the age\"\r\nAnn,7\r\n\"Bob \"\"B\"\"\n\",\n",
    r#"{"records":[{"key":"a2V5","value":"Y29u","partition":0,"headers":[{"key":"h","value":"dg=="}],"timestamp":1}]}"#,
    r#"{"partition_id":1,"headers":[{"name":"h","value":"dg=="}],"key":{"type":"BINARY","data":"Zm9v"},"value":{"type":"JSON","data":{"a":[1]}},"timestamp":"2021-02-05T19:14:42Z"} {"value":{"type":"STRING","data":"x"}}"#,
    r#"[{"topic":"orders","partition":0,"offset":44},{"topic":"orders","partition":1,"timestamp":1700000000000}]"#,
    "orders:0:44,orders:1:9",
    "ts:2026-01-02T03:04:05+01:00",
    "-9223372036854775807d",
    "offset:9223372036854775807",
    r#"{"type":"subscribe","id":1,"topics":["orders"],"group":"g","from":"committed","ack":"explicit","credit":{"records":500},"filter":"value.n > 2 && key =~ '^a'"}"#,
    r#"{"type":"ack","sub":1,"id":7,"through":[{"topic":"orders","partition":0,"offset":"42"}],"records":[{"partition":0,"offset":44}]}"#,
    r#"{"type":"produce","id":9,"seq":4,"acks":"all","records":[{"key":"k","value":{"$b64":"AA=="},"headers":[["h",null]],"timestamp":5}]}"#,
    "\x01\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x0c\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\x05\x02k\x04ab\x02\x02h\x01\0\0\0\x01\0\0\0\0\0\0\0\x05\x01\x01\0",
    "r1.AQFvAQEBAQEBAQEBAQEBAQEBAQAAAAEAAAAAAAAAAAAAACwAAAAD",
    "topics=t&raw=1&offset_str=1&include=headers,timestamp&isolation=read_committed&linger_ms=5&conflate=true",
    "topics=a,b&group=g&ack=received&instance_id=i&max_unacked=3&resume=a:0:4&include=resume&key=k",
];

#[test]
fn any_body_is_answered_and_never_a_panic() {
    let number = |name: &str, default: u64| env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64;
    let first = number("CAPEK_FUZZ_SEED", now);
    let deadline = Instant::now() + Duration::from_secs(number("CAPEK_FUZZ_SECONDS", 1));
    let mut seed = first;
    while seed == first || Instant::now() < deadline {
        let input = Random(seed | 1).input();
        let outcome = std::panic::catch_unwind(|| read_everywhere(&input));
        assert!(outcome.is_ok(), "again with CAPEK_FUZZ_SEED={seed}: {}", String::from_utf8_lossy(&input));
        seed = seed.wrapping_add(2);
    }
    eprintln!("{} inputs from seed {first}", (seed - first) / 2);
}

fn read_everywhere(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(query) = QueryPairs::parse(text)
    {
        let _ = (query.number::<i32>("partition"), query.flag("internal"), query.with_prefix("header.").count());
    }
    v1::read_any(input);
    rest_v2::read_any(input);
    rest_v3::read_any(input);
    stream::read_any(input);
}

/// xorshift: the same seed, the same inputs.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A sample with some bytes changed, cut out, doubled, or taken from another.
    fn input(&mut self) -> Vec<u8> {
        for _ in 0..8 {
            self.below(2);
        }
        let mut input = SAMPLES[self.below(SAMPLES.len())].as_bytes().to_vec();
        for _ in 0..self.below(6) {
            let at = self.below(input.len() + 1);
            let end = (at + self.below(16)).min(input.len());
            match self.below(5) {
                0 => input.truncate(at),
                1 => drop(input.drain(at..end)),
                2 => {
                    let piece = input[at..end].repeat(1 + self.below(40));
                    drop(input.splice(at..at, piece));
                }
                3 => {
                    let other = SAMPLES[self.below(SAMPLES.len())].as_bytes();
                    let from = self.below(other.len());
                    drop(input.splice(at..end, other[from..].iter().copied().take(24)));
                }
                _ => {
                    const TELLING: &[u8] = b"\"\\{}[],:%&=-+0eE.\n\r\0\x7f\x80\xff";
                    let byte = TELLING[self.below(TELLING.len())];
                    if let Some(place) = input.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
        input
    }
}
