//! Kafka's deserializers, as far as a text comes out of them: strings, numbers and identifiers.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deserializer {
    /// The bytes as they are.
    #[default]
    Bytes,
    String,
    Short,
    Integer,
    Long,
    Float,
    Double,
    Boolean,
    Uuid,
}

impl Deserializer {
    /// By the name of Kafka's class, with or without its package.
    pub fn named(class: &str) -> Option<Deserializer> {
        let short = class.strip_prefix("org.apache.kafka.common.serialization.").unwrap_or(class);
        let deserializer = match short {
            "ByteArrayDeserializer" | "BytesDeserializer" | "ByteBufferDeserializer" => Deserializer::Bytes,
            "StringDeserializer" => Deserializer::String,
            "ShortDeserializer" => Deserializer::Short,
            "IntegerDeserializer" => Deserializer::Integer,
            "LongDeserializer" => Deserializer::Long,
            "FloatDeserializer" => Deserializer::Float,
            "DoubleDeserializer" => Deserializer::Double,
            "BooleanDeserializer" => Deserializer::Boolean,
            "UUIDDeserializer" => Deserializer::Uuid,
            _ => return None,
        };
        Some(deserializer)
    }

    /// Appends the text; bytes that do not fit are an error.
    pub fn write(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let text = match self {
            Deserializer::Bytes | Deserializer::String => {
                out.extend_from_slice(bytes);
                return Ok(());
            }
            Deserializer::Short => i16::from_be_bytes(exactly(bytes)?).to_string(),
            Deserializer::Integer => i32::from_be_bytes(exactly(bytes)?).to_string(),
            Deserializer::Long => i64::from_be_bytes(exactly(bytes)?).to_string(),
            Deserializer::Float => decimal(f32::from_be_bytes(exactly(bytes)?)),
            Deserializer::Double => decimal(f64::from_be_bytes(exactly(bytes)?)),
            Deserializer::Boolean => match exactly::<1>(bytes)? {
                [0] => "false".to_owned(),
                [1] => "true".to_owned(),
                [other] => return Err(format!("Unexpected byte received: {other}")),
            },
            Deserializer::Uuid => String::from_utf8_lossy(bytes).into_owned(),
        };
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("Size of data received by the deserializer is not {N}"))
}

/// Java shows whole numbers with a fraction, too.
fn decimal(number: impl std::fmt::Debug) -> String {
    format!("{number:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_big_endian_and_of_their_size() {
        let text = |class: &str, bytes: &[u8]| {
            let mut out = Vec::new();
            Deserializer::named(class).unwrap().write(bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        let long = "org.apache.kafka.common.serialization.LongDeserializer";
        assert_eq!(text(long, &7i64.to_be_bytes()).unwrap(), "7");
        assert_eq!(text("DoubleDeserializer", &1f64.to_be_bytes()).unwrap(), "1.0");
        assert_eq!(text("BooleanDeserializer", &[1]).unwrap(), "true");
        assert!(text(long, b"abc").unwrap_err().contains("is not 8"));
        assert_eq!(Deserializer::named("com.example.Mine"), None);
    }
}
