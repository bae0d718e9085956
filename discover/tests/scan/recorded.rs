//! Trees recorded in virtual machines (`cargo xtask fixtures`), and what a scan said there.

use crate::support::discover;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A recorded tree, with blank images in place of its devices.
struct Recorded {
    root: TempDir,
    scan: Value,
}

fn recorded() -> Vec<(String, Recorded)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|file| {
            file.unwrap()
                .file_name()
                .to_str()?
                .strip_suffix(".tree")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    names
        .into_iter()
        .map(|name| {
            let text = |suffix: &str| fs::read_to_string(folder.join(format!("{name}.{suffix}"))).unwrap();
            let recorded = Recorded::unpack(&text("tree"), serde_json::from_str(&text("json")).unwrap());
            (name, recorded)
        })
        .collect()
}

impl Recorded {
    fn unpack(tree: &str, scan: Value) -> Self {
        let root = TempDir::new().unwrap();
        let sys = root.path().join("sys");
        fs::create_dir_all(sys.join("bus")).unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        for line in tree.lines() {
            let mut parts = line.splitn(3, '\t');
            let (kind, path, content) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let path = sys.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match kind {
                "F" => fs::write(&path, format!("{content}\n")).unwrap(),
                "L" => symlink(sys.join(content), &path).unwrap(),
                kind => panic!("{kind}"),
            }
        }
        let recorded = Self { root, scan };
        recorded.make_images();
        recorded
    }

    /// Makes blank, sparse images of the size of their devices.
    fn make_images(&self) {
        let Ok(disks) = fs::read_dir(self.sysfs().join("class/block")) else {
            return;
        };
        for disk in disks {
            let disk = disk.unwrap();
            let sectors: u64 = fs::read_to_string(disk.path().join("size"))
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            let image = File::create(self.root.path().join("dev").join(disk.file_name())).unwrap();
            image.set_len(sectors * 512).unwrap();
        }
    }

    fn sysfs(&self) -> PathBuf {
        self.root.path().join("sys")
    }

    fn scan(&self) -> Vec<Value> {
        let (sysfs, dev) = (self.sysfs(), self.root.path().join("dev"));
        let said = discover([
            "scan".as_ref(),
            "--json".as_ref(),
            "--sysfs".as_ref(),
            sysfs.as_os_str(),
            "--dev".as_ref(),
            dev.as_os_str(),
        ]);
        assert!(said.code == 0 || said.code == 4, "{}", said.stderr);
        said.devices()
    }
}

/// Returns what of a device follows from sysfs alone.
fn shape(device: &Value) -> Vec<Value> {
    let mut shape: Vec<Value> = ["mode", "region", "namespace", "device_range", "numa_node"]
        .iter()
        .map(|member| device[*member].clone())
        .collect();
    // Its name without the folder.
    shape.push(device["device"].as_str().unwrap().rsplit('/').next().unwrap().into());
    shape
}

#[test]
fn each_recorded_tree_has_the_shapes_that_were_seen_there() {
    let mut modes = BTreeSet::new();
    for (name, recorded) in recorded() {
        let found = recorded.scan();
        let expected = recorded.scan["devices"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(shape(found), shape(expected), "{name}");
            let unsupported = expected["state"] == "unsupported";
            assert_eq!(found["state"] == "unsupported", unsupported, "{name}: {found}");
            if unsupported {
                assert_eq!(found["reason"], expected["reason"], "{name}");
            }
            modes.insert(found["mode"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(
        modes.into_iter().collect::<Vec<_>>(),
        ["devdax", "fsdax", "raw", "sector"]
    );
}

#[test]
fn a_recorded_tree_that_lacks_any_one_file_is_no_crash_and_loses_one_device_at_most() {
    for (name, recorded) in recorded() {
        let whole = recorded.scan().len();
        let mut files = Vec::new();
        let mut folders = vec![recorded.sysfs().join("devices")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
        }
        let region_wide = |file: &Path| {
            file.parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("region")
        };
        // Of the larger trees every seventh file: each run starts a program.
        let step = files.len().div_ceil(60);
        for file in files.iter().step_by(step) {
            let content = fs::read(file).unwrap();
            for damage in [None, Some(&b""[..])] {
                match damage {
                    None => fs::remove_file(file).unwrap(),
                    Some(content) => fs::write(file, content).unwrap(),
                }
                let (sysfs, dev) = (recorded.sysfs(), recorded.root.path().join("dev"));
                let said = discover([
                    "scan".as_ref(),
                    "--json".as_ref(),
                    "--sysfs".as_ref(),
                    sysfs.as_os_str(),
                    "--dev".as_ref(),
                    dev.as_os_str(),
                ]);
                let left = said.devices().len();
                assert!(
                    left + 1 >= whole || region_wide(file),
                    "{name}: without {} {left} of {whole} are left: {}",
                    file.display(),
                    said.stderr
                );
                assert!([0, 1, 4].contains(&said.code), "{name}: {}", said.stderr);
                fs::write(file, &content).unwrap();
            }
        }
    }
}
