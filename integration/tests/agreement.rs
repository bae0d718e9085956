//! `show` and `scan` say the same about a device: both use the inspection of `format`, and each adds only what it alone can know.
//!
//! The devices are the test vectors of the specification.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test states what it expects by panicking"
)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The assumed address of the images, where every alignment is right.
const BASE: u64 = 1 << 32;

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors/devices")
}

/// Makes the image that a vector describes. A device's own block size is not an image's: `None`.
fn image(text: &str, path: &Path) -> Option<File> {
    let field = |name: &str| {
        let begin = format!("# {name} ");
        text.lines().find_map(|line| line.strip_prefix(&begin)).unwrap()
    };
    if field("block") != "unknown" {
        return None;
    }
    let file = File::create(path).unwrap();
    file.set_len(field("size").parse().unwrap()).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (offset, bytes) = line.split_once(':').unwrap();
        let bytes: Vec<u8> = bytes
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        file.write_all_at(&bytes, u64::from_str_radix(offset, 16).unwrap())
            .unwrap();
    }
    Some(file)
}

/// Returns what `show --json` or `scan --json` says.
fn document(arguments: &[&str], image: &Path) -> serde_json::Value {
    let (command, path) = (arguments[0], image.to_str().unwrap());
    let arguments = [&arguments[1..], &[path]].concat();
    let mut text = Vec::new();
    match command {
        "show" => {
            use xen_pmem_provision::target::{Access, Target};
            let target = Target::open(image, Access::Read).unwrap();
            let inspection = target.inspect().unwrap();
            let base = arguments[0].parse().unwrap();
            let geometry = target.geometry(inspection.lba_size, Some(base)).unwrap();
            let document = xen_pmem_provision::document::Document::of(path, &inspection, &geometry, &[]);
            serde_json::to_writer(&mut text, &document).unwrap();
        }
        _ => {
            let base = arguments[0].parse().unwrap();
            let outcome = xen_pmem_discover::scan::scan_image(image, base).unwrap();
            serde_json::to_writer(&mut text, &outcome.scan.devices[0]).unwrap();
        }
    }
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn show_and_scan_agree_on_every_vector() {
    let folder = tempfile::tempdir().unwrap();
    let base = BASE.to_string();
    let mut compared = 0;
    for entry in std::fs::read_dir(vectors()).unwrap() {
        let vector = entry.unwrap().path();
        let name = vector.file_stem().unwrap().to_string_lossy().into_owned();
        let path = folder.path().join(&name);
        if image(&std::fs::read_to_string(&vector).unwrap(), &path).is_none() {
            continue;
        }
        let [shown, scanned] = ["show", "scan"].map(|command| document(&[command, &base], &path));
        assert_eq!(shown["state"], scanned["state"], "{name}: {shown} {scanned}");
        let [shown_reason, scanned_reason] =
            [&shown, &scanned].map(|document| document["reason"].as_str().unwrap_or(""));
        // Only the tool that knows addresses says that an area is too small for its address.
        assert!(
            scanned_reason.starts_with(shown_reason),
            "{name}: {shown_reason:?} {scanned_reason:?}"
        );
        let reserved = shown["reserved"]["base"].as_u64();
        let scanned_base = scanned["reserved"]["base"].as_u64();
        assert_eq!(reserved.map(|offset| BASE + offset), scanned_base, "{name}: {scanned}");
        compared += 1;
    }
    assert!(compared > 90, "{compared}");
}
