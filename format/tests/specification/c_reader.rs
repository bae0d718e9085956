//! The reader in C, compiled with the header of the specification.

use crate::device::Device;
use crate::vectors::{Page, changed, content, vectors};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use xen_pmem_format::superblock::{NotACopy, SuperBlock, Which};
use xen_pmem_format::units::DeviceOffset;

/// The compiled reader; made once, kept with the other build artefacts.
static READER: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/specification/reader.c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reader");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-I"])
        .arg(crate::docs())
        .arg(source)
        .arg("-o")
        .arg(&program)
        .status()
        .expect("a C compiler, as `cc` or named by CC");
    assert!(status.success(), "the reader compiles");
    program
});

fn reader(args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(&*READER)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("reader runs");
    // It answers while it reads: both at once, so that neither waits for the other.
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what the reader in C says of each device, in order.
pub(crate) fn judge_in_c(devices: &[Device]) -> Vec<String> {
    let mut stream = Vec::new();
    devices.iter().for_each(|device| device.to_stream(&mut stream));
    let said: Vec<String> = reader(&["devices"], &stream).lines().map(str::to_owned).collect();
    assert_eq!(said.len(), devices.len());
    said
}

fn in_c(page: &Page, found: DeviceOffset) -> String {
    reader(&["page", &found.0.to_string()], page).trim_end().to_owned()
}

fn in_rust(page: &Page, found: DeviceOffset) -> &'static str {
    match SuperBlock::decode(page, found) {
        Ok(_) => "valid",
        Err(NotACopy::NoSignature) => "missing",
        Err(_) => "corrupt",
    }
}

#[test]
fn the_header_has_the_fields_of_the_specification() {
    let specification = std::fs::read_to_string(crate::docs().join("format.md")).unwrap();
    let mut rows: Vec<String> = specification
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, offset, size, name, ..] = cells.as_slice() else {
                return None;
            };
            let numbers = offset.parse::<u32>().is_ok() && size.parse::<u32>().is_ok();
            numbers.then(|| format!("{name} {offset} {size}"))
        })
        .collect();
    rows.push("end 208 0".to_owned());
    let fields = reader(&["offsets"], &[]);
    assert_eq!(fields.lines().collect::<Vec<_>>(), rows);
    assert_eq!(rows.len(), 27);
}

#[test]
fn both_readers_agree_on_the_vectors() {
    for (name, page, found, expected) in vectors() {
        assert_eq!(in_c(&page, found), expected, "{name}");
    }
}

#[test]
fn both_readers_agree_on_every_field_set_to_extremes() {
    for offset in (8..208).filter(|offset| !(16..20).contains(offset)) {
        for value in [&[0u8][..], &[0xff], &[0x7f], &[0x80], &[0; 8], &[0xff; 8]] {
            // The checksum's own field is left alone, and so is what follows the last one.
            if (offset < 16 && offset + value.len() > 16) || offset + value.len() > 208 {
                continue;
            }
            let page = changed(Which::Backup, offset, value);
            let found = Which::Backup.offset();
            assert_eq!(in_c(&page, found), in_rust(&page, found), "{value:x?} at {offset}");
        }
    }
    let page = content().encode_at(Which::Primary, DeviceOffset(0x10_0000));
    assert_eq!(in_c(&page, DeviceOffset(0x10_0000)), "valid");
    assert_eq!(in_c(&page, DeviceOffset(0x10_1000)), "corrupt");
}
