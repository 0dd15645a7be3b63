//! Many committed offsets, and how long it takes until a broker that was started again knows them all.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::frames::{connect, response};
use crate::group_frames as frames;

/// The group's coordinator, or its topic, is not there yet, or loads.
pub const NOT_YET: [i16; 3] = [14, 15, 16];

/// Groups that have committed each partition of a topic.
pub struct OffsetsLoad {
    pub address: String,
    pub topic: String,
    pub partitions: i32,
    pub groups: usize,
}

impl OffsetsLoad {
    fn group(index: usize) -> String {
        format!("offsets-{index}")
    }

    /// One request for each group.
    pub async fn commit(self) -> io::Result<()> {
        let mut socket = connect(&self.address).await?;
        let began = Instant::now();
        for index in 0..self.groups {
            let group = OffsetsLoad::group(index);
            loop {
                socket.write_all(&frames::commit(&group, &self.topic, self.partitions, index as i64)).await?;
                match frames::commit_error(&response(&mut socket).await?, self.partitions) {
                    0 => break,
                    error if NOT_YET.contains(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
                    error => return Err(io::Error::other(format!("commit: error {error}"))),
                }
            }
        }
        let committed = self.groups as i64 * i64::from(self.partitions);
        println!("{{\"offsets\": {committed}, \"seconds\": {:.2}}}", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Asks each group for the last partition until it is told.
    pub async fn reload(self) -> io::Result<()> {
        let began = Instant::now();
        let mut socket = connect(&self.address).await?;
        for index in 0..self.groups {
            let found = self.committed(&mut socket, &OffsetsLoad::group(index)).await?;
            if found != index as i64 {
                return Err(io::Error::other(format!("group {index} has {found}")));
            }
        }
        println!("{{\"ms\": {:.0}}}", began.elapsed().as_secs_f64() * 1000.0);
        Ok(())
    }

    async fn committed(&self, socket: &mut TcpStream, group: &str) -> io::Result<i64> {
        loop {
            socket.write_all(&frames::fetch_offset(group, &self.topic, self.partitions - 1)).await?;
            match frames::fetched_offset(&response(socket).await?) {
                (0, offset) => return Ok(offset),
                (error, _) if NOT_YET.contains(&error) => tokio::time::sleep(Duration::from_millis(10)).await,
                (error, _) => return Err(io::Error::other(format!("offset fetch: error {error}"))),
            }
        }
    }
}
