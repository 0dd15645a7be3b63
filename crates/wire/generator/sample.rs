//! Random messages for tests, compiled only with the feature `testing`.

use super::messages::{guarded, line};
use super::model::Struct;

pub fn generate(one: &Struct) -> String {
    let mut out = String::new();
    line(&mut out, "#[cfg(feature = \"testing\")] fn sample(s: &mut Sampler, version: i16) -> Self {".to_string());
    line(&mut out, "let mut message = Self::default();".to_string());
    for field in &one.fields {
        let fill = format!("message.{} = {};", field.name, field.sample());
        // A tagged field is left at its default now and then, so that both forms are seen.
        let fill = if field.tag.is_some() { format!("if s.bool() {{ {fill} }}") } else { fill };
        line(&mut out, guarded(field.versions.condition(), &fill));
    }
    out + "message }\n"
}
