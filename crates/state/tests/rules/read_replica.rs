//! Whom a consumer reads from when it knows its rack.

use capek_state::cluster::{Image, RegisterBroker, ReplicaView, nearest_follower};

use crate::brokers::{fence, id_of_t, in_sync, placed, register, unfence};
use crate::fixtures::uuid;

/// Brokers 1 and 4 are in the north, 2 and 3 in the south; broker 1 leads.
fn image() -> Image {
    let mut image = Image::default();
    for (broker, rack) in [(1, "north"), (2, "south"), (3, "south"), (4, "north")] {
        let (incarnation, rack) = (uuid(broker as u64), Some(rack.to_owned()));
        register(&mut image, RegisterBroker { broker, incarnation, rack, ..RegisterBroker::default() });
    }
    placed(image, &[&[1, 2, 3, 4]])
}

/// Each follower holds as much as its place says.
fn nearest(image: &Image, rack: &str, offset: i64, ends: [i64; 3]) -> Option<i32> {
    let followers: Vec<_> = (2..).zip(ends).map(|(broker, end_offset)| ReplicaView { broker, end_offset }).collect();
    let partition = image.partition(id_of_t(image), 0).expect("it was created");
    nearest_follower(image, partition, rack, offset, &followers)
}

#[test]
fn a_consumer_reads_in_its_own_rack_from_the_follower_that_holds_most() {
    let image = image();
    assert_eq!(nearest(&image, "south", 5, [7, 9, 9]), Some(3));
    assert_eq!(nearest(&image, "south", 5, [9, 9, 9]), Some(2), "of equals the first");
    assert_eq!(nearest(&image, "north", 5, [9, 9, 9]), None, "the leader is as near as any");
    assert_eq!(nearest(&image, "east", 5, [9, 9, 9]), None, "nobody is near");
    assert_eq!(nearest(&image, "", 5, [9, 9, 9]), None, "it has no rack");
}

#[test]
fn nobody_is_sent_to_a_follower_that_lacks_the_offset_or_is_not_in_sync() {
    let mut image = image();
    assert_eq!(nearest(&image, "south", 8, [7, 8, 9]), Some(3));
    assert_eq!(nearest(&image, "south", 9, [7, 8, 9]), None);
    fence(&mut image, 3);
    assert_eq!(nearest(&image, "south", 8, [7, 8, 9]), None);
    unfence(&mut image, 3);
    assert_eq!(nearest(&image, "south", 8, [7, 8, 9]), None, "it is not in sync yet");
    assert_eq!(in_sync(&mut image, &[1, 2, 3, 4]), Ok(()));
    assert_eq!(nearest(&image, "south", 8, [7, 8, 9]), Some(3));
}
