//! What the tests are made of: disks, sysfs trees, and the program that is run on them.

pub(crate) mod disk;
pub(crate) mod tree;

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;
use tree::Tree;
use uuid::Uuid;

/// The reservation of most tests.
pub(crate) const UUID: Uuid = Uuid::from_u128(0x11111111_2222_4333_8444_555555555555);
/// Another one.
pub(crate) const OTHER: Uuid = Uuid::from_u128(0x66666666_7777_4888_8999_aaaaaaaaaaaa);

/// What the program said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Returns the document's devices.
    pub(crate) fn devices(&self) -> Vec<Value> {
        let document: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout));
        assert_eq!(document["schema"], 1);
        document["devices"].as_array().unwrap().clone()
    }

    /// Returns the only device.
    pub(crate) fn device(&self) -> Value {
        let [device] = <[Value; 1]>::try_from(self.devices()).unwrap();
        device
    }
}

/// Runs `xen-pmem-discover` with `args`.
pub(crate) fn discover<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xen-pmem-discover"));
    let output = command.args(args).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Scans a tree, for all devices or the given ones.
pub(crate) fn scan(tree: &Tree, devices: &[&str]) -> Said {
    let (sysfs, dev) = (tree.sysfs(), tree.dev());
    let fixed = [
        "scan".as_ref(),
        "--json".as_ref(),
        "--sysfs".as_ref(),
        sysfs.as_os_str(),
        "--dev".as_ref(),
        dev.as_os_str(),
    ];
    discover(
        fixed
            .into_iter()
            .chain(devices.iter().map(|device| Path::new(device).as_os_str())),
    )
}
