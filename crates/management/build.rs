//! Compresses the files of the page, so that they are in the binary once and go out as they are.

use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

const DIRECTORY: &str = "page";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={DIRECTORY}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut files = Vec::new();
    collect(Path::new(DIRECTORY), &mut files)?;
    files.sort();
    let mut table = String::from("&[\n");
    for (number, path) in files.iter().enumerate() {
        let bytes = fs::read(path)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&bytes)?;
        let name = format!("{number}.gz");
        fs::write(out.join(&name), gzip.finish()?)?;
        // Who looks whether the page is there may not unpack anything.
        let is_index = path.extension().is_some_and(|kind| kind == "html");
        let plain = if is_index { bytes.as_slice() } else { b"" };
        let plain_name = format!("{number}.plain");
        fs::write(out.join(&plain_name), plain)?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let name_there = path.strip_prefix(DIRECTORY)?.display().to_string();
        writeln!(
            table,
            "Asset {{ name: {name_there:?}, tag: \"\\\"{:016x}\\\"\", size: {}, gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\")), plain: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{plain_name}\")) }},",
            hasher.finish(),
            bytes.len(),
        )?;
    }
    table.push(']');
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

/// The files below a directory that browsers ask for.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", directory.display());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
            continue;
        }
        println!("cargo::rerun-if-changed={}", path.display());
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("html" | "css" | "js" | "svg")) {
            files.push(path);
        }
    }
    Ok(())
}
