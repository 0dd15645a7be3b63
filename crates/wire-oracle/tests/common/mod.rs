//! What both oracles share: sampling, comparing, counting.

use bytes::{Bytes, BytesMut};
use capek_wire::testing::{Sampler, encoded};
use capek_wire::{Message, Reader, Request};

const SAMPLES: u64 = 60;

/// Which half of an API.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction {
    Request,
    Response,
}

/// What was compared, and what differs.
#[derive(Default)]
pub struct Tally {
    apis: std::collections::BTreeSet<i16>,
    differences: Vec<String>,
}

impl Tally {
    /// Fails when anything differs, or when fewer APIs than this were compared.
    pub fn finish(self, apis_min: usize) {
        assert!(self.differences.is_empty(), "{}", self.differences.join("\n"));
        assert!(self.apis.len() >= apis_min, "only {} APIs were compared", self.apis.len());
    }
}

/// Shows random messages of one API and version to the oracle, which gives back what it makes of our bytes.
pub fn for_every_sample<R: Request>(
    version: i16,
    tally: &mut Tally,
    echo: impl Fn(Direction, Bytes) -> Result<BytesMut, String>,
) {
    tally.apis.insert(R::KEY.code());
    for seed in 0..SAMPLES {
        let mut s = Sampler::new(seed * 1000 + version as u64);
        let samples = [
            (Direction::Request, there_and_back(&R::sample(&mut s, version), version)),
            (Direction::Response, there_and_back(&R::Response::sample(&mut s, version), version)),
        ];
        for (direction, bytes) in samples {
            let problem = match echo(direction, bytes.clone()) {
                Ok(echoed) if echoed == bytes => continue,
                Ok(echoed) => format!("writes\n  {echoed:02x?} for\n  {bytes:02x?}"),
                Err(error) => error,
            };
            tally.differences.push(format!("{:?} {direction:?} v{version} seed {seed}: {problem}", R::KEY));
            return;
        }
    }
}

/// The message on the wire, after we have read it again ourselves.
pub fn there_and_back<M: Message>(message: &M, version: i16) -> Bytes {
    let bytes = encoded(message, version);
    let mut r = Reader::new(bytes.clone());
    assert_eq!(M::decode(&mut r, version).as_ref(), Ok(message), "version {version}");
    assert_eq!(r.remaining(), 0, "version {version}");
    bytes
}
