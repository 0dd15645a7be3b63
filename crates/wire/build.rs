//! Generates the messages, the API table and the error codes from `schema/`.

mod generator;

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=generator");
    let schema_dir = Path::new("schema");
    let out_dir = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let out_dir = Path::new(&out_dir);

    let mut schema = generator::model::Schema::default();
    let mut paths: Vec<_> = fs::read_dir(schema_dir)
        .expect("the schema folder is part of the crate")
        .map(|entry| entry.expect("the schema folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a schema file is UTF-8 text");
        if path.ends_with("error_codes.txt") {
            write(out_dir, "error_codes.rs", &generator::error_codes::generate(&text));
        } else {
            generator::parse::parse(&path.display().to_string(), &text, &mut schema);
        }
    }
    schema.sort();
    write(out_dir, "messages.rs", &generator::messages::generate(&schema));
    write(out_dir, "api_keys.rs", &generator::api_keys::generate(&schema));
}

fn write(out_dir: &Path, name: &str, code: &str) {
    fs::write(out_dir.join(name), code).expect("the output folder can be written");
}
