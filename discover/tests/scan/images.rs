//! Images at a given address.

use crate::support::disk::{DATA, Disk, MIB, RESERVED, SIZE};
use crate::support::{UUID, discover};
use serde_json::json;
use std::fs;
use tempfile::NamedTempFile;

fn image(disk: &Disk, base: &str) -> (crate::support::Said, NamedTempFile) {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), &disk.bytes).unwrap();
    let said = discover([
        "scan".as_ref(),
        "--json".as_ref(),
        "--image".as_ref(),
        file.path().as_os_str(),
        "--base".as_ref(),
        base.as_ref(),
    ]);
    assert_eq!(fs::read(file.path()).unwrap(), disk.bytes, "nothing is written");
    (said, file)
}

#[test]
fn an_image_is_a_namespace_at_the_given_address() {
    let base = 0x1_4000_0000u64;
    let (said, file) = image(&Disk::prepared(UUID), "0x140000000");
    let whole = json!({"base": base, "size": SIZE});
    assert_eq!(
        said.device(),
        json!({
            "device": file.path(),
            "state": "prepared",
            "uuid": UUID,
            "mode": "image",
            "region": whole,
            "namespace": whole,
            "device_range": whole,
            "numa_node": null,
            "reserved": {"base": base + RESERVED.0, "size": RESERVED.1},
            "partitions": [{"number": 1, "base": base + DATA.0, "size": DATA.1}],
            "reason": null,
        })
    );
    assert_eq!(said.code, 0);
}

#[test]
fn an_address_off_two_mebibytes_misaligns_the_reserved_area() {
    let (said, _file) = image(&Disk::prepared(UUID), &(0x1_0000_0000 + MIB).to_string());
    assert_eq!((said.device()["state"].as_str(), said.code), (Some("damaged"), 5));
}

#[test]
fn unprepared_and_truncated_images() {
    assert_eq!(image(&Disk::blank(), "0").0.code, 4);
    let mut truncated = Disk::prepared(UUID);
    truncated.bytes.truncate((SIZE / 2) as usize);
    let (said, _file) = image(&truncated, "0");
    assert_ne!(said.code, 0);
    assert_ne!(said.device()["state"], "prepared");
    let (said, _file) = image(&Disk { bytes: Vec::new() }, "0");
    assert_eq!((said.device()["state"].as_str(), said.code), (Some("unprepared"), 4));
}

#[test]
fn what_is_no_image_or_does_not_fit() {
    for (path, base, code, words) in [
        (
            "/nowhere/disk.img",
            "0",
            1,
            "/nowhere/disk.img: cannot be read: No such file",
        ),
        ("/dev/null", "0", 2, "/dev/null: is not an image file"),
        ("/", "0", 2, "/: is not an image file"),
    ] {
        let said = discover(["scan", "--json", "--image", path, "--base", base]);
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{path}");
        assert!(said.stderr.contains(words), "{}", said.stderr);
    }
    let (said, _file) = image(&Disk::blank(), "0xffffffffffff0000");
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains("would end beyond 64 bits"), "{}", said.stderr);
}
