//! Our binary by the names of Kafka's tools does what they do: the same arguments to both, the same output and status.

use crate::support::broker::Broker;
use crate::support::compared_tools::{Compared, SIDES};

#[test]
fn kafka_topics_by_our_binary_is_kafkas() {
    let broker = Broker::start();
    let mut both = Compared::new(&broker);
    for line in [
        "topics --create --topic @ --partitions 3 --config retention.ms=1234567 --config segment.bytes=1048576",
        "topics --create --topic @",
        "topics --create --topic @ --if-not-exists",
        "topics --create --topic @.dot --partitions 2",
        "topics --create --topic @_dot",
        "topics --create --topic @!",
        "topics --create --topic zero@ --partitions 0",
        "topics --create --topic as@ --replica-assignment 1,1",
        "topics --create --topic as2@ --replica-assignment 1:2,1",
        "topics --create --topic bad@ --config nonsense=1",
        "topics --create --topic bad@ --config nonsense",
        "topics --list --topic @.*",
        "topics --describe --topic @",
        "topics --describe --topic @,as@",
        "topics --describe --topic @nope",
        "topics --describe --topic @nope --if-exists",
        "topics --describe --topic @ --under-replicated-partitions",
        "topics --describe --topic @ --unavailable-partitions",
        "topics --describe --topic @ --under-min-isr-partitions",
        "topics --describe --topic @ --at-min-isr-partitions",
        "topics --describe --topic @ --topics-with-overrides",
        "topics --alter --topic @ --partitions 5",
        "topics --alter --topic @ --partitions 5",
        "topics --alter --topic @ --partitions 2",
        "topics --alter --topic @nope --partitions 2",
        "topics --alter --topic @nope --partitions 2 --if-exists",
        "topics --alter --topic @",
        "topics --alter --topic @ --config a=b",
        "topics --delete --topic @nope",
        "topics --delete --topic @nope --if-exists",
        "topics --delete --topic @.dot",
        "topics --list --topic @.*",
        "topics --bogus",
        "topics --list --create --topic x",
        "topics --create --topic",
        "topics --help",
    ] {
        both.same(line);
    }
}

#[test]
fn kafka_configs_by_our_binary_is_kafkas() {
    let broker = Broker::start();
    broker.create_topic("configured", 1);
    let mut both = Compared::new(&broker);
    for line in [
        "configs --alter --topic configured --add-config retention.ms=99999,cleanup.policy=[compact,delete]",
        "configs --describe --topic configured",
        "configs --describe --entity-type topics --entity-name configured",
        "configs --describe --topic configured --all",
        "configs --describe --entity-type topics",
        "configs --describe --topic nope",
        "configs --alter --topic configured --delete-config retention.ms",
        "configs --describe --topic configured",
        "configs --alter --topic configured --add-config nonsense=1",
        "configs --alter --topic configured --add-config retention.ms=abc",
        "configs --alter --topic configured --add-config retention.ms",
        "configs --alter --topic configured",
        "configs --alter --topic nope --add-config retention.ms=1",
        "configs --describe --entity-type brokers",
        "configs --describe --broker 1",
        "configs --describe --broker 9",
        "configs --describe --broker x",
        "configs --describe --broker-defaults",
        "configs --describe --entity-type nonsense",
        "configs --describe",
        "configs --bogus",
        "configs --describe --topic configured --broker 1",
    ] {
        both.same(line);
    }
}

#[test]
fn console_tools_by_our_binary_write_and_print_as_kafkas_do() {
    let broker = Broker::start();
    let mut both = Compared::new(&broker);
    both.same("topics --create --topic @ --partitions 1");
    for (line, input) in [
        ("console-producer --topic @", "one\ntwo\n\nthree"),
        ("console-producer --topic @ --reader-property parse.key=true", "k1\tv1\nk2\tv2\nnokey\n"),
        (
            "console-producer --topic @ --property parse.key=true --property key.separator=: --property ignore.error=true",
            "k1:v1\nnokey\n",
        ),
        (
            "console-producer --topic @ --reader-property parse.key=true --reader-property parse.headers=true",
            "h1:a,h2:b\tk3\tv3\n",
        ),
        (
            "console-producer --topic @ --reader-property parse.key=true --reader-property null.marker=NULL",
            "NULL\tv6\nk7\tNULL\n",
        ),
        ("console-producer --topic @ --compression-codec gzip --producer-property acks=1", "x2\n"),
        ("console-producer --topic @ --compression-codec zstd --sync", "x3\n"),
        ("console-producer --topic @ --compression-codec nope", "x\n"),
        ("console-producer --topic @ --command-property acks=7", "x\n"),
        ("console-producer --topic @ --property a=b --reader-property c=d", "x\n"),
        ("console-producer --bogus", ""),
    ] {
        both.same_with(line, input);
    }
    for line in [
        "console-consumer --topic @ --partition 0 --offset earliest --timeout-ms 2000",
        "console-consumer --topic @ --partition 0 --offset 2 --max-messages 2",
        "console-consumer --topic @ --partition 0 --offset latest --timeout-ms 1000",
        "console-consumer --topic @ --partition 0 --offset earliest --max-messages 12 --formatter-property \
         print.timestamp=true --formatter-property print.key=true --formatter-property print.partition=true \
         --formatter-property print.offset=true --formatter-property print.headers=true --formatter-property \
         print.epoch=true --formatter-property print.delivery=true",
        "console-consumer --topic @ --partition 0 --offset earliest --max-messages 12 --property print.key=true --property \
         print.headers=true --property key.separator=| --property headers.separator=+ --property null.literal=NIL",
        "console-consumer --topic @ --partition 7 --timeout-ms 1000",
        "console-consumer --topic @ --offset 2",
        "console-consumer --topic @ --partition 0 --offset abc",
        "console-consumer --topic @ --partition 0 --group g",
        "console-consumer --topic @ --include x",
        "console-consumer --bogus",
        "get-offsets --topic @",
        "get-offsets --topic @ --time earliest",
        "get-offsets --topic @ --time -1",
        "get-offsets --topic @ --time 0",
        "get-offsets --topic @ --time 99999999999999",
        "get-offsets --topic @ --time abc",
        "get-offsets --topic @nope",
        "get-offsets --topic @ --partitions 9",
        "get-offsets --topic @ --partitions x",
        "get-offsets --topic-partitions @:0-1",
        "get-offsets --topic-partitions @:1-",
        "get-offsets --topic @ --topic-partitions @:0",
        "get-offsets --bogus",
    ] {
        both.same(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

#[test]
fn small_admin_tools_by_our_binary_are_kafkas() {
    let broker = Broker::start();
    let mut both = Compared::new(&broker);
    both.same("topics --create --topic @ --partitions 1");
    both.same_with("console-producer --topic @", "a\nb\nc\n");
    let directory = broker.data_dir.with_file_name("files");
    std::fs::create_dir_all(&directory).expect("the test's directory is writable");
    let file = |name: &str, body: &str| {
        let path = directory.join(name);
        std::fs::write(&path, body).expect("the test's directory is writable");
        path.to_str().expect("the path is ASCII").to_owned()
    };
    for side in SIDES {
        let one = |offset: &str| {
            format!(r#"{{"partitions":[{{"topic":"{side}","partition":0,"offset":{offset}}}],"version":1}}"#)
        };
        file(&format!("good-{side}"), &one("2"));
        file(&format!("beyond-{side}"), &one("9999"));
    }
    let twice = r#"{"partitions":[{"topic":"t","partition":0,"offset":1},{"topic":"t","partition":0,"offset":2}]}"#;
    let (garbage, twice) = (file("garbage", "garbage"), file("twice", twice));
    let version = file("version", r#"{"partitions":[],"version":2}"#);
    let directory = directory.to_str().expect("the path is ASCII");
    for line in [
        format!("delete-records --offset-json-file {directory}/good-@"),
        format!("delete-records --offset-json-file {directory}/beyond-@"),
        format!("delete-records --offset-json-file {garbage}"),
        format!("delete-records --offset-json-file {twice}"),
        format!("delete-records --offset-json-file {version}"),
        "delete-records --offset-json-file nowhere".to_owned(),
        "delete-records".to_owned(),
        "get-offsets --topic @ --time -2".to_owned(),
        "broker-api-versions".to_owned(),
        "broker-api-versions --bogus".to_owned(),
        "acls --list".to_owned(),
        "acls --add --allow-principal User:a --operation Read --topic @".to_owned(),
        "acls --list --add".to_owned(),
        "acls --bogus".to_owned(),
    ] {
        both.same(&line);
    }
}
