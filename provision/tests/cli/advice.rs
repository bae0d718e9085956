//! What `verify` advises is done, and succeeds, whatever it has found.

use super::damage::{DAMAGES, image_of};
use super::{Images, MIB};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use xen_pmem_format::inspect::{Finding, inspect};

/// The commands that `verify` advises for a target, and how they end with the target as it is.
fn follow_each(images: &Images, name: &str, target: &Path, saved: &Path, failures: &mut Vec<String>) -> Vec<String> {
    let program = assert_cmd::cargo::cargo_bin("xen-pmem-provision");
    let verified = Command::new(&program).arg("verify").arg(target).output().unwrap();
    let text = String::from_utf8(verified.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(": xen-pmem-provision "));
    let commands: Vec<String> = lines.map(|(_, command)| command.to_owned()).collect();
    for command in &commands {
        // Each on a copy of the device as it was.
        let copy = images.path("copy");
        std::fs::copy(target, &copy).unwrap();
        let arguments = command.split(' ').map(|word| match word {
            word if Path::new(word) == target => copy.to_str().unwrap(),
            "FILE" => saved.to_str().unwrap(),
            word => word,
        });
        let output = Command::new(&program).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            failures.push(format!("{name}: {command}: {said}\n{text}"));
        }
        std::fs::remove_file(copy).unwrap();
    }
    assert!(
        !commands.is_empty() || text.contains(": prepared\n"),
        "{name}: there is no advice\n{text}"
    );
    commands
}

/// A word for each kind of finding. A new one has to be added here, and to be shown by a device below.
fn kind(finding: &Finding) -> &'static str {
    match finding {
        Finding::NoTable { .. } => "no table",
        Finding::ProtectiveMbr { .. } => "protective MBR",
        Finding::Table { .. } => "table",
        Finding::TablesDiffer => "tables differ",
        Finding::BackupTableNotAtEnd { .. } => "backup table not at the end",
        Finding::Copy { .. } => "copy",
        Finding::CopyElsewhere { .. } => "copy elsewhere",
        Finding::Conflict => "conflict",
        Finding::Ambiguous { .. } => "ambiguous",
        Finding::Foreign { .. } => "foreign",
        Finding::NoSuperBlock => "no super block",
        Finding::DeviceSize { .. } => "device size",
        Finding::Claimed(_) => "claimed",
        Finding::HybridMbr { .. } => "hybrid MBR",
        Finding::EntriesMoved { .. } => "entries moved",
        Finding::ReservedOutsideGap { .. } => "reserved outside the gap",
        Finding::ReservedCoversCopy { .. } => "reserved covers a copy",
        Finding::Unprotected { .. } => "unprotected",
        other => panic!("{other} has no word here"),
    }
}

/// What becomes of a prepared image, by name.
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

#[test]
fn what_is_advised_can_be_done() {
    let images = Images::new();
    let mut seen = BTreeSet::new();
    let mut failures = Vec::new();
    let damages = DAMAGES.iter().map(|(name, damage, _)| (*name, *damage));
    for (name, damage) in damages.chain(DEVICES.iter().copied()) {
        let (path, file) = image_of(&images, "image");
        let saved = images.path("saved");
        let program = assert_cmd::cargo::cargo_bin("xen-pmem-provision");
        let backup = Command::new(program)
            .arg("backup")
            .arg(&path)
            .arg(&saved)
            .output()
            .unwrap();
        assert!(backup.status.success());
        damage(&file);
        seen.extend(inspect(&file, None).unwrap().findings.iter().map(kind));
        let advised = follow_each(&images, name, &path, &saved, &mut failures);
        match name {
            "blank" => assert!(advised[0].starts_with("init "), "{advised:?}"),
            "somebody's data" => assert!(advised[0].starts_with("init --force "), "{advised:?}"),
            "grown" => assert!(
                advised.iter().all(|command| !command.starts_with("restore")),
                "{advised:?}"
            ),
            _ => {}
        }
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(saved).unwrap();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{seen:?}");
}
