//! `ApiKey` and its table of versions.

use std::fmt::Write;

use super::model::Schema;

pub fn generate(schema: &Schema) -> String {
    let mut out = String::from(
        "/// A request that clients may send to a broker.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\n\
         #[allow(missing_docs)]\npub enum ApiKey {\n",
    );
    let mut table = String::new();
    for api in &schema.apis {
        let Some(key) = api.key else { continue };
        let (name, flexible_from) = (&api.name, api.flexible_from);
        let (low, high) = (api.versions.low, api.versions.high);
        writeln!(out, "    {name} = {key},").expect("a string takes all");
        writeln!(
            table,
            "    Entry {{ key: ApiKey::{name}, name: {name:?}, versions: ({low}, {high}), flexible_from: {flexible_from:?} }},"
        )
        .expect("a string takes all");
    }
    out.push_str("}\n\n/// All of them, by rising key.\nconst TABLE: &[Entry] = &[\n");
    out + &table + "];\n"
}
