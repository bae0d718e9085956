//! The test follows each advice of `verify`, and it succeeds for every finding.

use super::damage::{DAMAGES, image_of};
use super::{Images, MIB};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use xen_pmem_format::inspect::{Finding, State, inspect};
use xen_pmem_format::units::LbaSize;

/// Follows each command that `verify` advises for a target, on a copy of it as it is, and returns them. Where no command helps, the
/// reason says what does.
fn follow_each(images: &Images, name: &str, target: &Path, saved: &Path, failures: &mut Vec<String>) -> Vec<String> {
    let program = assert_cmd::cargo::cargo_bin("xen-pmem-provision");
    let verified = Command::new(&program).arg("verify").arg(target).output().unwrap();
    let text = String::from_utf8(verified.stdout).unwrap();
    let advised = |line: &str| {
        let (purpose, command) = line.strip_prefix("  to ")?.split_once(": ")?;
        Some((purpose.starts_with("heal it"), command.to_owned()))
    };
    let mut commands: Vec<(bool, String)> = text.lines().filter_map(advised).collect();
    if commands.is_empty() && !text.contains(": prepared\n") {
        let reason = text
            .lines()
            .find_map(|line| line.strip_prefix("  no command changes this: "));
        let reason = reason.unwrap_or_else(|| panic!("{name}: there is no advice\n{text}"));
        match reason.split_once("overwrite it: ") {
            Some((_, command)) => commands.push((false, command.to_owned())),
            None => assert!(
                reason.contains("it is too small: ") || reason.contains("give an image a size of whole pages"),
                "{name}: {reason}"
            ),
        }
    }
    for (heals, command) in &commands {
        let copy = images.path("copy");
        std::fs::copy(target, &copy).unwrap();
        let command = command
            .replace(target.to_str().unwrap(), copy.to_str().unwrap())
            .replace(" FILE", &format!(" {}", saved.display()))
            .replace("xen-pmem-provision", program.to_str().unwrap());
        let output = Command::new("sh").arg("-c").arg(&command).output().unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            failures.push(format!("{name}: {command}: {said}\n{text}"));
        }
        let after = inspect(&File::open(&copy).unwrap(), None).unwrap();
        if *heals && after.state != State::Prepared {
            failures.push(format!("{name}: {command}: afterwards {}\n{text}", after.reasons()));
        }
        std::fs::remove_file(copy).unwrap();
    }
    commands.into_iter().map(|(_, command)| command).collect()
}

/// The kinds of damage to a prepared image, by name.
type Fate = (&'static str, fn(&File));

/// More devices than those of the table of damages.
const DEVICES: &[Fate] = &[
    ("grown", |file| file.set_len(65 * MIB).unwrap()),
    ("truncated", |file| file.set_len(63 * MIB).unwrap()),
    ("truncated by a block", |file| file.set_len(64 * MIB - 4096).unwrap()),
    ("blank", |file| {
        file.set_len(0).unwrap();
        file.set_len(64 * MIB).unwrap();
    }),
    ("somebody's data", |file| {
        file.set_len(0).unwrap();
        file.set_len(64 * MIB).unwrap();
        file.write_all_at(b"x", 3 * MIB).unwrap();
    }),
    ("no protective MBR", |file| file.write_all_at(&[0; 512], 0).unwrap()),
];

/// Returns the devices of the specification's vectors that are images and small enough to be copied.
fn vectors(images: &Images) -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors/devices");
    let mut vectors = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("# {name} ")));
        let size: u64 = field("size").unwrap().parse().unwrap();
        if field("block") != Some("unknown") || size > 1 << 30 {
            continue;
        }
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (offset, bytes) = line.split_once(':').unwrap();
            let bytes = bytes
                .split_whitespace()
                .map(|byte| u8::from_str_radix(byte, 16).unwrap());
            (u64::from_str_radix(offset, 16).unwrap(), bytes.collect::<Vec<u8>>())
        });
        let rows: Vec<_> = rows.collect();
        let contents: Vec<_> = rows.iter().map(|(offset, bytes)| (*offset, bytes.as_slice())).collect();
        let path = images.with(&name, size, &contents);
        vectors.push((name, path));
    }
    assert!(vectors.len() > 40, "{}", vectors.len());
    vectors
}

/// Makes a backup of an image.
fn save(image: &Path, file: &Path) {
    let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    backup.arg("backup").arg(image).arg(file).assert().success();
}

#[test]
fn what_is_advised_can_be_done() {
    let images = Images::new();
    let mut seen = BTreeSet::new();
    let mut failures = Vec::new();
    let damages = DAMAGES.iter().map(|(name, damage, _)| (*name, *damage));
    for (name, damage) in damages.chain(DEVICES.iter().copied()) {
        let (path, file) = image_of(&images, "image");
        let saved = images.path("saved");
        save(&path, &saved);
        damage(&file);
        seen.extend(inspect(&file, None).unwrap().findings.iter().map(Finding::kind));
        let advised = follow_each(&images, name, &path, &saved, &mut failures);
        match name {
            "blank" => assert!(advised[0].starts_with("xen-pmem-provision init /"), "{advised:?}"),
            "somebody's data" => assert!(
                advised[0].starts_with("xen-pmem-provision init --force "),
                "{advised:?}"
            ),
            "grown" => assert!(
                advised.iter().all(|command| !command.contains(" restore ")),
                "{advised:?}"
            ),
            _ => {}
        }
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(saved).unwrap();
    }
    let vectors = vectors(&images);
    // Each as it was before it was damaged.
    let saved = ["prepared", "prepared-4096", "entries-behind-reserved"].map(|name| {
        let (path, saved) = (images.path("before"), images.path(&format!("{name}.saved")));
        std::fs::copy(images.path(name), &path).unwrap();
        if name == "entries-behind-reserved" {
            // Its partitions are not those of the others.
            let moved = Command::new("sgdisk").arg("--move-main-table=2").arg(&path).output();
            assert!(moved.unwrap().status.success());
        }
        save(&path, &saved);
        saved
    });
    for (name, path) in &vectors {
        let inspection = inspect(&File::open(path).unwrap(), None).unwrap();
        seen.extend(inspection.findings.iter().map(Finding::kind));
        let [of_512, of_4096, of_moved] = &saved;
        let saved = match name.as_str() {
            "entries-behind-reserved" => of_moved,
            _ if inspection.lba_size == LbaSize::B4096 => of_4096,
            _ => of_512,
        };
        follow_each(&images, name, path, saved, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let all: BTreeSet<_> = Finding::KINDS.iter().copied().collect();
    assert_eq!(seen, all, "each kind of finding is on one of the devices");
}
