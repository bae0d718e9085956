//! What uses a disk, a partition or an image, in words: what it is, and what to do about it.

use super::{Member, loops};
use crate::guest_claim::Claim;
use crate::sysfs::SysfsRoot;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Returns what the kernel names as a user of one of these devices: a mount, a swap area, a device made of it, a loop device, a guest.
pub(super) fn named(sysfs: &SysfsRoot, members: &[Member]) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let swaps = swaps();
    let guests = guests(sysfs);
    members.iter().find_map(|member| {
        let node = member.node();
        if let Some(place) = mounted(&mounts, &member.number) {
            return Some(format!("{node} is mounted on {place}; unmount it first"));
        }
        if swaps
            .iter()
            .any(|swap| number_of(swap).as_deref() == Some(member.number.as_str()))
        {
            return Some(format!("{node} is a swap area; turn it off first (swapoff {node})"));
        }
        if let Some(holder) = member.directory.child("holders").first_name() {
            if let Some(claim) = sysfs.block_device(&holder).as_ref().and_then(Claim::of_holder) {
                return Some(format!(
                    "{node} is claimed for domain {}; shut that domain down first; if it is gone already, release the claim \
                     (xen-pmem-report guest release {node})",
                    claim.domain()
                ));
            }
            return Some(format!("{node} is held by {holder}; take that apart first"));
        }
        let shown = fs::metadata(&node)
            .ok()
            .and_then(|metadata| loops::showing(sysfs, &metadata));
        if let Some(device) = shown {
            return Some(format!(
                "/dev/{device} shows {node}; detach it first (losetup -d /dev/{device})"
            ));
        }
        let guest = guests.iter().find(|guest| guest.number == member.number)?;
        Some(format!(
            "{node} is a disk of domain {} (its {}); shut that domain down, or detach the disk, first",
            guest.domain, guest.device
        ))
    })
}

/// Returns what uses an image file: a loop device, or the kernel, which swaps to it.
pub(super) fn of_image(sysfs: &SysfsRoot, path: &Path, metadata: &Metadata) -> Option<String> {
    if let Some(device) = loops::showing(sysfs, metadata) {
        return Some(format!(
            "/dev/{device} shows it; detach it first (losetup -d /dev/{device})"
        ));
    }
    let same = |swap: &PathBuf| {
        fs::metadata(swap).is_ok_and(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino()))
    };
    swaps().iter().any(same).then(|| {
        format!(
            "the kernel swaps to it; turn that off first (swapoff {})",
            path.display()
        )
    })
}

/// Returns the process that has one of these devices open.
pub(super) fn opener(members: &[Member]) -> Option<String> {
    first_descriptor(|descriptor| {
        let metadata = fs::metadata(descriptor).ok().filter(is_block_device)?;
        let number = numbered(&metadata);
        let member = members.iter().find(|member| member.number == number)?;
        Some(member.node())
    })
    .map(|(process, node)| format!("{process} has {node} open; end it first"))
}

/// Returns the process that has one of these devices open for writing.
pub(super) fn writer(members: &[Member]) -> Option<String> {
    first_descriptor(|descriptor| {
        let metadata = fs::metadata(descriptor).ok().filter(is_block_device)?;
        let number = numbered(&metadata);
        let member = members.iter().find(|member| member.number == number)?;
        may_write(descriptor).then(|| member.node())
    })
    .map(|(process, node)| format!("{process} has {node} open for writing; end it first"))
}

/// Returns the process that has this file open.
pub(super) fn opener_of_file(path: &Path, metadata: &Metadata) -> Option<String> {
    let same = |found: Metadata| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino());
    first_descriptor(|descriptor| fs::metadata(descriptor).is_ok_and(same).then_some(())).map(|(process, ())| {
        format!(
            "{process} has {} open; shut that virtual machine down first",
            path.display()
        )
    })
}

/// Returns where a device is mounted, by its number. What is not mounted by a device's number (btrfs) is claimed, which O_EXCL sees.
fn mounted<'m>(mountinfo: &'m str, number: &str) -> Option<&'m str> {
    // proc_pid_mountinfo(5): mount ID, parent ID, major:minor, root, mount point, ...
    mountinfo.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.nth(2)? == number).then(|| words.nth(1)).flatten()
    })
}

/// Returns the devices and files that the kernel swaps to.
fn swaps() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.map(|name| PathBuf::from(unescaped(name))).collect()
}

/// Returns a name as the kernel writes it in lists: white space and backslashes as octal numbers.
fn unescaped(name: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(name.to_owned(), |name, (escape, character)| {
            name.replace(escape, character)
        })
}

/// A disk that xen-blkback serves.
struct Guest {
    /// The guest's domain.
    domain: String,
    /// The device's name on the bus.
    device: String,
    /// `major:minor`.
    number: String,
}

/// Returns the disks that xen-blkback serves: `vbd-DOMAIN-DEVICE`, whose `physical_device` is `major:minor` in hexadecimal.
fn guests(sysfs: &SysfsRoot) -> Vec<Guest> {
    let served = |device: &crate::sysfs::Directory| {
        let domain = device.name().strip_prefix("vbd-")?.split('-').next()?.to_owned();
        let text = device.text("physical_device").ok()??;
        let (major, minor) = text.split_once(':')?;
        let hexadecimal = |digits| u32::from_str_radix(digits, 16).ok();
        Some(Guest {
            domain,
            device: device.name().to_owned(),
            number: format!("{}:{}", hexadecimal(major)?, hexadecimal(minor)?),
        })
    };
    sysfs.xen_backends().iter().filter_map(served).collect()
}

/// Returns the first descriptor of another process that `take` takes, with the process in words. Root sees those of all processes.
fn first_descriptor<T>(take: impl Fn(&Path) -> Option<T>) -> Option<(String, T)> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let name = process.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // A process that has ended meanwhile, or belongs to another user, lists nothing.
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        if let Some(taken) = descriptors.into_iter().find_map(|descriptor| take(&descriptor.path())) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((format!("process {name} ({})", command.trim()), taken));
        }
    }
    None
}

/// Returns whether a descriptor (`/proc/PID/fd/N`) is open for writing: the access mode in its flags, which are octal (proc_pid_fdinfo(5)).
fn may_write(descriptor: &Path) -> bool {
    let information = descriptor
        .parent()
        .zip(descriptor.file_name())
        .map(|(folder, number)| folder.with_file_name("fdinfo").join(number));
    let text = information
        .and_then(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & 0o3 != 0)
}

fn is_block_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_block_device()
}

fn number_of(path: &PathBuf) -> Option<String> {
    fs::metadata(path)
        .ok()
        .filter(is_block_device)
        .map(|metadata| numbered(&metadata))
}

fn numbered(metadata: &Metadata) -> String {
    let number = metadata.rdev();
    format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_the_devices_number() {
        let mountinfo = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 259:1 / /mnt\\040two rw - ext4 /dev/pmem0p1 rw\n";
        assert_eq!(mounted(mountinfo, "259:1"), Some("/mnt\\040two"));
        assert_eq!(mounted(mountinfo, "59:1"), None);
        assert_eq!(mounted("short\n", "59:1"), None);
        assert_eq!(unescaped("/a\\040b\\134"), "/a b\\");
    }

    #[test]
    fn disks_of_guests_are_read_from_the_bus() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("bus/xen-backend/devices");
        for (name, device) in [
            ("vbd-3-51712", Some("103:1\n")),
            ("vbd-4-51712", None),
            ("vif-3-0", Some("1:1")),
        ] {
            fs::create_dir_all(bus.join(name)).unwrap();
            if let Some(device) = device {
                fs::write(bus.join(name).join("physical_device"), device).unwrap();
            }
        }
        let found = guests(&SysfsRoot::new(root.path()));
        let found: Vec<_> = found
            .iter()
            .map(|guest| (guest.domain.as_str(), guest.number.as_str()))
            .collect();
        assert_eq!(found, [("3", "259:1")]);
    }

    #[test]
    fn a_process_with_an_open_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        fs::write(&path, []).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(opener_of_file(&path, &metadata), None);
        let input = fs::File::open(&path).unwrap();
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .stdin(input)
            .spawn()
            .unwrap();
        let said = opener_of_file(&path, &metadata);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let said = said.unwrap();
        assert!(said.contains(&format!("process {} (", sleeper.id())), "{said}");
    }
}
