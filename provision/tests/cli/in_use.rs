//! What is in use is refused by every command that writes, and by its dry run, before anything is written.

use super::{Images, provision, sentence};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Each command that writes, without its target and, of `restore`, the file.
const WRITING: &[&[&str]] = &[
    &["init"],
    &["init", "--force"],
    &["remove"],
    &["repair"],
    &["resize", "--reserve", "8M"],
    &["restore"],
    &["restore", "--force"],
];

/// Runs a command on a target.
fn run(arguments: &[&str], target: &Path, saved: &Path) -> assert_cmd::assert::Assert {
    let mut command = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    let [name, options @ ..] = arguments else {
        panic!("no command")
    };
    command.arg(name).arg(target);
    if *name == "restore" {
        command.arg(saved);
    }
    command.args(options).assert()
}

/// Returns a prepared image and a backup of it.
fn prepared(images: &Images) -> (PathBuf, PathBuf) {
    let path = images.prepared("image");
    let saved = images.path("saved");
    let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    backup.arg("backup").arg(&path).arg(&saved).assert().success();
    (path, saved)
}

/// Asserts that every command that writes refuses the target, says why in these words, and changes nothing.
fn expect_refusals(commands: &[&[&str]], target: &Path, saved: &Path, words: &str) {
    let before = std::fs::read(target).unwrap();
    for command in commands {
        for dry_run in [&[][..], &["--dry-run"]] {
            let command = [command, dry_run].concat();
            let said = sentence(&run(&command, target, saved).code(3), target);
            assert!(
                said.contains("is in use: ") && said.contains(words),
                "{command:?}: {said}"
            );
            assert!(std::fs::read(target).unwrap() == before, "{command:?} changed it");
        }
    }
    // Looking is always allowed.
    provision(&["show", "-q"], target).success();
    provision(&["verify", "-q"], target).success();
}

#[test]
fn an_image_that_qemu_has_open() {
    let images = Images::new();
    let (path, saved) = prepared(&images);
    let qemu = File::open(&path).unwrap();
    // What it does with every image: it relies on its content, the first thing of its list.
    let mut lock: libc::flock = libc::flock {
        l_type: libc::F_RDLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 100,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&qemu, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    expect_refusals(WRITING, &path, &saved, "virtual machine");
    lock.l_type = libc::F_UNLCK.try_into().unwrap();
    fcntl(&qemu, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    provision(&["remove", "-q"], &path).success();
}

/// A process that has a file open; ended when this is dropped.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn with(file: File) -> Self {
        let mut command = Command::new("sleep");
        command
            .arg("300")
            .stdin(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A loop device; detached when it is dropped.
struct Loop(String);

impl Loop {
    /// Returns a loop device that shows a file; `None` if there are none here, or the user must not make one.
    fn of(file: &Path, options: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            return None;
        }
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(options)
            .arg(file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(Self(String::from_utf8(output.stdout).unwrap().trim().to_owned()))
    }

    fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn an_image_that_a_loop_device_shows() {
    let images = Images::new();
    let (path, saved) = prepared(&images);
    // By another name of the same file, which is gone then.
    let other = images.path("other");
    std::fs::hard_link(&path, &other).unwrap();
    let Some(device) = Loop::of(&other, &[]) else { return };
    std::fs::remove_file(&other).unwrap();
    expect_refusals(WRITING, &path, &saved, &format!("{} shows it", device.0));
    drop(device);
    provision(&["remove", "-q"], &path).success();
}

/// Returns a disk whose partition node is there, whether the kernel reads GPTs or not.
fn disk_with_partition(image: &Path, options: &[&str]) -> Option<(Loop, String)> {
    let disk = Loop::of(image, options)?;
    let told = Command::new("partx").arg("--update").arg(disk.path()).status().unwrap();
    assert!(told.success());
    let node = format!("{}p1", disk.0);
    assert!(Path::new(&node).exists(), "{node}");
    Some((disk, node))
}

#[test]
fn a_disk_of_which_only_a_partition_is_open() {
    let images = Images::new();
    let (path, saved) = prepared(&images);
    // Where the kernel reads tables it says that a partition is open, otherwise the process is found.
    for options in [&["--partscan"][..], &[]] {
        let Some((disk, node)) = disk_with_partition(&path, options) else {
            return;
        };
        let sleeper = Sleeper::with(File::open(&node).unwrap());
        let words = format!("process {} (sleep) has {node} open", sleeper.id());
        expect_refusals(&[&["init", "--force"]], disk.path(), &saved, &words);
    }
}

#[test]
fn a_disk_of_which_a_loop_device_shows_a_partition() {
    let images = Images::new();
    let (path, saved) = prepared(&images);
    let Some((disk, node)) = disk_with_partition(&path, &[]) else {
        return;
    };
    let inner = Loop::of(Path::new(&node), &[]).unwrap();
    expect_refusals(WRITING, disk.path(), &saved, &format!("{} shows {node}", inner.0));
}

#[test]
fn a_disk_that_somebody_writes_to() {
    let images = Images::new();
    let (path, saved) = prepared(&images);
    let Some(disk) = Loop::of(&path, &[]) else { return };
    let sleeper = Sleeper::with(File::options().write(true).open(disk.path()).unwrap());
    let words = format!("process {} (sleep) has {} open for writing", sleeper.id(), disk.0);
    expect_refusals(WRITING, disk.path(), &saved, &words);
    drop(sleeper);
    provision(&["remove", "-q"], disk.path()).success();
}
