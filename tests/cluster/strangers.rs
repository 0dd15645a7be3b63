//! Brokers that do not belong: of another cluster, or with a disk that has forgotten everything. Each is refused with a sentence,
//! and the cluster goes on as if nothing had come.

use std::fs;

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::load::Load;
use crate::support::broker::Broker;
use crate::support::wait_for;

/// It has voted before and does not remember: it must not vote again.
#[test]
fn a_member_with_a_new_disk_is_refused_and_nothing_is_lost() {
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "disks");
    let replaced = cluster.leader("disks", 0);
    cluster.kill(replaced);
    let kept = cluster.broker(replaced).data_dir.with_extension("kept");
    fs::rename(&cluster.broker(replaced).data_dir, &kept).expect("the directory can be moved");
    let (status, output) = Broker::run_to_refusal(cluster.broker(replaced).command());
    assert!(!status.success());
    let sentence = format!("broker {replaced} is a member of the cluster");
    assert!(output.contains(&sentence) && output.contains("no metadata log"), "{output}");
    load.wait_for_progress();

    let data_dir = cluster.broker(replaced).data_dir.clone();
    fs::remove_dir_all(&data_dir).expect("what it has begun can be removed");
    fs::rename(&kept, &data_dir).expect("the directory can be moved back");
    cluster.start_again(replaced);
    load.stop_and_check(&cluster, "replaced disk");
}

#[test]
fn a_broker_of_another_cluster_is_refused_and_nothing_is_lost() {
    let mut cluster = Cluster::start();
    let mut others = Cluster::start();
    let load = Load::start(&cluster, "ours");
    let replaced = cluster.leader("ours", 0);
    others.kill(replaced);
    cluster.kill(replaced);
    let kept = cluster.broker(replaced).data_dir.with_extension("kept");
    let data_dir = cluster.broker(replaced).data_dir.clone();
    fs::rename(&data_dir, &kept).expect("the directory can be moved");
    fs::rename(&others.broker(replaced).data_dir, &data_dir).expect("the directory can be moved");
    drop(others);
    cluster.broker_mut(replaced).spawn();
    wait_for("it is refused", HEALED_WITHIN, || {
        let ids = cluster.others(&[replaced]).into_iter();
        let mut refusals = ids.filter(|id| cluster.broker(*id).output().contains("it belongs to the cluster"));
        refusals.next()
    });
    load.wait_for_progress();
    cluster.kill(replaced);

    fs::remove_dir_all(&data_dir).expect("a stranger's directory can be removed");
    fs::rename(&kept, &data_dir).expect("the directory can be moved back");
    cluster.start_again(replaced);
    load.stop_and_check(&cluster, "broker of another cluster");
}
