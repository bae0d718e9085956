//! The same request makes the same bytes.

use super::Images;
use assert_cmd::Command;

#[test]
fn images_can_be_reproduced() {
    let images = Images::new();
    let [one, other] = ["one", "other"].map(|name| {
        let path = images.path(name);
        Command::cargo_bin("xen-pmem-provision")
            .unwrap()
            .env("SOURCE_DATE_EPOCH", "1767225600")
            .args([
                "init",
                "-q",
                "--size",
                "64M",
                "--partition",
                "8M:a",
                "--partition",
                "rest:b",
            ])
            .args(["--uuid", "11111111-2222-4333-8444-555555555555"])
            .args(["--disk-guid", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"])
            .arg(&path)
            .assert()
            .success();
        std::fs::read(path).unwrap()
    });
    assert!(one == other);
}
