//! How `kafka-console-consumer` prints records: Kafka's default formatter with its properties, its logging formatter, and
//! the one that prints nothing.

use super::ToolError;
use super::deserializer::Deserializer;
use super::properties::Properties;

/// A record as a formatter sees it.
pub struct Shown<'a> {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub is_log_append_time: bool,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

#[derive(Debug)]
pub struct MessageFormatter {
    kind: Kind,
    print_timestamp: bool,
    print_key: bool,
    print_value: bool,
    print_partition: bool,
    print_offset: bool,
    print_headers: bool,
    print_delivery: bool,
    print_epoch: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Vec<u8>,
    key: Deserializer,
    value: Deserializer,
    header: Deserializer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Default,
    Logging,
    Nothing,
}

const PACKAGE: &str = "org.apache.kafka.tools.consumer.";

impl MessageFormatter {
    /// `class` is Kafka's name of it; None is the default one.
    pub fn new(class: Option<&str>, properties: &Properties) -> Result<MessageFormatter, ToolError> {
        let kind = match class.map(|class| class.strip_prefix(PACKAGE).unwrap_or(class)) {
            None | Some("DefaultMessageFormatter") => Kind::Default,
            Some("LoggingMessageFormatter") => Kind::Logging,
            Some("NoOpMessageFormatter") => Kind::Nothing,
            Some(other) => return Err(ToolError::usage(other)),
        };
        let text = |name: &str, default: &str| properties.get(name).unwrap_or(default).as_bytes().to_vec();
        let is_true = |name: &str, default: bool| properties.get(name).map_or(default, |_| properties.is_true(name));
        let deserializer = |name: &str| match properties.get(name) {
            None => Ok(Deserializer::default()),
            Some(class) => Deserializer::named(class)
                .ok_or_else(|| ToolError::failed(format!("java.lang.ClassNotFoundException: {class}"))),
        };
        Ok(MessageFormatter {
            kind,
            print_timestamp: is_true("print.timestamp", false),
            print_key: is_true("print.key", false),
            print_value: is_true("print.value", true),
            print_partition: is_true("print.partition", false),
            print_offset: is_true("print.offset", false),
            print_headers: is_true("print.headers", false),
            print_delivery: is_true("print.delivery", false),
            print_epoch: is_true("print.epoch", false),
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null_literal: text("null.literal", "null"),
            key: deserializer("key.deserializer")?,
            value: deserializer("value.deserializer")?,
            header: deserializer("headers.deserializer")?,
        })
    }

    /// Appends the record; on an error nothing of it.
    pub fn write(&self, record: &Shown, out: &mut Vec<u8>) -> Result<(), String> {
        let before = out.len();
        let written = match self.kind {
            Kind::Nothing => Ok(()),
            Kind::Default | Kind::Logging => self.write_line(record, out),
        };
        written.inspect_err(|_| out.truncate(before))?;
        if self.kind == Kind::Logging {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"null")).into_owned();
            let time = time(record);
            log::info!("{time}, key:{}, value:{}", text(record.key), text(record.value));
        }
        Ok(())
    }

    fn write_line(&self, record: &Shown, out: &mut Vec<u8>) -> Result<(), String> {
        let mut is_first = true;
        // A separator stands before every field but the first, which may be empty.
        let mut begin = |wanted: bool, out: &mut Vec<u8>| {
            if wanted && !std::mem::replace(&mut is_first, false) {
                out.extend_from_slice(&self.key_separator);
            }
            wanted
        };
        let plain = [
            (self.print_timestamp, time(record)),
            (self.print_partition, format!("Partition:{}", record.partition)),
            (self.print_offset, format!("Offset:{}", record.offset)),
            (self.print_delivery, "Delivery:NOT_PRESENT".to_owned()),
            (self.print_epoch, "Epoch:NOT_PRESENT".to_owned()),
        ];
        for (wanted, text) in plain {
            if begin(wanted, out) {
                out.extend_from_slice(text.as_bytes());
            }
        }
        if begin(self.print_headers, out) {
            self.write_headers(record, out)?;
        }
        if begin(self.print_key, out) {
            self.write_bytes(record.key, self.key, out)?;
        }
        if begin(self.print_value, out) {
            self.write_bytes(record.value, self.value, out)?;
        }
        out.extend_from_slice(&self.line_separator);
        Ok(())
    }

    fn write_headers(&self, record: &Shown, out: &mut Vec<u8>) -> Result<(), String> {
        if record.headers.is_empty() {
            out.extend_from_slice(b"NO_HEADERS");
        }
        for (index, (name, value)) in record.headers.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(&self.headers_separator);
            }
            out.extend_from_slice(name);
            out.push(b':');
            self.write_bytes(*value, self.header, out)?;
        }
        Ok(())
    }

    fn write_bytes(&self, bytes: Option<&[u8]>, deserializer: Deserializer, out: &mut Vec<u8>) -> Result<(), String> {
        match bytes {
            Some(bytes) => deserializer.write(bytes, out),
            None => {
                out.extend_from_slice(&self.null_literal);
                Ok(())
            }
        }
    }
}

fn time(record: &Shown) -> String {
    match (record.timestamp, record.is_log_append_time) {
        (-1, _) => "NO_TIMESTAMP".to_owned(),
        (timestamp, true) => format!("LogAppendTime:{timestamp}"),
        (timestamp, false) => format!("CreateTime:{timestamp}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Shown<'static> = Shown {
        partition: 2,
        offset: 9,
        timestamp: 5,
        is_log_append_time: false,
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[(b"h1", Some(b"a")), (b"h2", None)],
    };

    fn shown(record: &Shown, pairs: &[&str]) -> String {
        let mut out = Vec::new();
        let formatter = MessageFormatter::new(None, &Properties::from_pairs(pairs).unwrap()).unwrap();
        formatter.write(record, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_stand_in_kafkas_order() {
        assert_eq!(shown(&RECORD, &[]), "v\n");
        let all = [
            "print.timestamp=true",
            "print.key=true",
            "print.partition=true",
            "print.offset=true",
            "print.headers=true",
            "print.epoch=true",
            "print.delivery=true",
        ];
        let expected =
            "CreateTime:5\tPartition:2\tOffset:9\tDelivery:NOT_PRESENT\tEpoch:NOT_PRESENT\th1:a,h2:null\tk\tv\n";
        assert_eq!(shown(&RECORD, &all), expected);
    }

    #[test]
    fn separators_and_nulls_are_the_users() {
        let pairs =
            ["print.key=true", "key.separator=|", "line.separator=;", "headers.separator=+", "null.literal=NIL"];
        assert_eq!(shown(&RECORD, &[&pairs[..], &["print.headers=true"]].concat()), "h1:a+h2:NIL|k|v;");
        let empty = Shown { key: None, value: None, headers: &[], timestamp: -1, ..RECORD };
        assert_eq!(shown(&empty, &pairs), "NIL|NIL;");
        assert_eq!(shown(&empty, &["print.headers=true", "print.timestamp=true"]), "NO_TIMESTAMP\tNO_HEADERS\tnull\n");
        assert_eq!(shown(&RECORD, &["print.value=false", "print.partition=true"]), "Partition:2\n");
        // An empty key is a field, too.
        assert_eq!(shown(&Shown { key: Some(b""), ..RECORD }, &["print.key=true"]), "\tv\n");
    }
}
