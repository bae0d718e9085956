//! Claims: partitions that are set aside for a guest, held by the kernel of Dom0.
//!
//! A claim is a device-mapper device with a table that is loaded and not active. It opens the partition for itself alone, and has no
//! size: nothing can mount, format or partition what it holds, and no process has to live for it. Its name says which partition it
//! holds, its label (device-mapper's UUID) also for which domain.

use crate::sysfs::{self, Directory, SysfsRoot};
use std::fmt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What the names of claims begin with.
pub const NAME_PREFIX: &str = "xen-pmem-";
/// What their labels begin with.
const LABEL_PREFIX: &str = "XENPMEM-";
/// The longest name of a domain, in bytes: with the rest a label has 128 bytes at most (`DM_UUID_LEN` with its NUL is 129).
const DOMAIN: usize = 64;
/// The length of a UUID with hyphens.
const UUID: usize = 36;

/// The partition that is claimed, and the domain it is claimed for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    reservation: Uuid,
    partition: u32,
    domain: String,
}

/// Why something cannot be claimed for a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a domain: it has 1 to {DOMAIN} letters, digits or -_.:+")]
pub struct BadDomain(String);

impl Claim {
    /// Returns a claim on a partition of a reservation for the domain of this name.
    ///
    /// # Errors
    ///
    /// If no domain can have that name.
    pub fn new(reservation: Uuid, partition: u32, domain: &str) -> Result<Self, BadDomain> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
        if domain.is_empty() || domain.len() > DOMAIN || !domain.bytes().all(allowed) {
            return Err(BadDomain(domain.to_owned()));
        }
        Ok(Self {
            reservation,
            partition,
            domain: domain.to_owned(),
        })
    }

    /// Returns the claim that has this label.
    pub fn from_label(label: &str) -> Option<Self> {
        let rest = label.strip_prefix(LABEL_PREFIX)?;
        let (uuid, rest) = rest.split_at_checked(UUID)?;
        let (partition, domain) = rest.strip_prefix('-')?.split_once('-')?;
        let claim = Self::new(uuid.parse().ok()?, partition.parse().ok()?, domain).ok()?;
        // Numbers can be written in more than one way.
        (claim.label() == label).then_some(claim)
    }

    /// Returns the claim that holds a block device, if one does: `holder` is an entry of the device's folder `holders` in sysfs.
    pub fn of_holder(holder: &Directory) -> Option<Self> {
        Self::from_label(&holder.text("dm/uuid").ok()??)
    }

    /// Returns the claims on partitions of a disk, in order. `disk` is its folder in sysfs.
    ///
    /// # Errors
    ///
    /// If the folder of the disk or of a partition cannot be read.
    pub fn on_disk(disk: &Directory) -> Result<Vec<Self>, sysfs::Error> {
        let mut claims = Vec::new();
        for name in disk.entries()? {
            let child = disk.child(&name);
            // Other entries are not folders, or lack this attribute.
            if child.text("partition").is_ok_and(|number| number.is_some()) {
                let holders = child.child("holders");
                let names = holders.entries()?;
                claims.extend(names.iter().filter_map(|name| Self::of_holder(&holders.child(name))));
            }
        }
        claims.sort();
        Ok(claims)
    }

    /// Returns all claims that the kernel holds, in order.
    ///
    /// # Errors
    ///
    /// If the list of block devices is there and cannot be read, or a device's label cannot.
    pub fn all(sysfs: &SysfsRoot) -> Result<Vec<Self>, sysfs::Error> {
        let mut claims = Vec::new();
        for name in sysfs.block_devices()? {
            let Some(device) = sysfs.block_device(&name) else {
                continue;
            };
            claims.extend(device.text("dm/uuid")?.as_deref().and_then(Self::from_label));
        }
        claims.sort();
        Ok(claims)
    }

    /// Returns the nodes of the devices that it holds: one, or none if the kernel does not have the claim.
    ///
    /// # Errors
    ///
    /// If the list of block devices exists and cannot be read, or if a device's label or its list of held devices cannot be read.
    pub fn held(&self, sysfs: &SysfsRoot) -> Result<Vec<PathBuf>, sysfs::Error> {
        let label = self.label();
        let mut nodes = Vec::new();
        for name in sysfs.block_devices()? {
            let Some(device) = sysfs.block_device(&name) else {
                continue;
            };
            if device.text("dm/uuid")?.as_deref() == Some(label.as_str()) {
                let names = device.child("slaves").entries()?;
                nodes.extend(names.iter().map(|name| Path::new("/dev").join(name)));
            }
        }
        Ok(nodes)
    }

    /// Returns the name of its device-mapper device.
    pub fn name(&self) -> String {
        format!("{NAME_PREFIX}{}-{}", self.reservation, self.partition)
    }

    /// Returns the label of its device-mapper device.
    pub fn label(&self) -> String {
        format!("{LABEL_PREFIX}{}-{}-{}", self.reservation, self.partition, self.domain)
    }

    /// Returns the reservation.
    pub fn reservation(&self) -> Uuid {
        self.reservation
    }

    /// Returns the number of the partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Returns the name of the domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of reservation {}", self.partition, self.reservation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_what_is_claimed_and_for_whom() {
        let uuid = Uuid::from_u128(0x1234_5678_9abc_def0);
        for (partition, domain) in [(1, "guest"), (128, "a-b_c.d:e+f"), (u32::MAX, &"d".repeat(DOMAIN))] {
            let claim = Claim::new(uuid, partition, domain).unwrap();
            assert_eq!(Claim::from_label(&claim.label()), Some(claim.clone()));
            assert!(
                claim.label().len() <= 128 && claim.name().len() <= 127,
                "{}",
                claim.label()
            );
        }
        for domain in ["", "a b", "a/b", "ä", "a\n", &"d".repeat(DOMAIN + 1)] {
            assert!(Claim::new(uuid, 1, domain).is_err(), "{domain:?}");
        }
    }

    #[test]
    fn all_claims_are_found_among_the_block_devices() {
        let folder = tempfile::tempdir().unwrap();
        let uuid = Uuid::from_u128(7);
        let second = Claim::new(uuid, 2, "guest").unwrap();
        let first = Claim::new(uuid, 1, "other").unwrap();
        for (name, label) in [
            ("dm-0", Some(second.label())),
            ("dm-1", Some("LVM-0123456789".to_owned())),
            ("dm-2", Some(first.label())),
            ("pmem0p1", None),
        ] {
            let device = folder.path().join("class/block").join(name);
            std::fs::create_dir_all(&device).unwrap();
            if let Some(label) = label {
                std::fs::create_dir(device.join("dm")).unwrap();
                std::fs::create_dir_all(device.join("slaves").join(format!("pmem{}", &name[3..]))).unwrap();
                std::fs::write(device.join("dm/uuid"), label + "\n").unwrap();
            }
        }
        let sysfs = SysfsRoot::new(folder.path());
        assert_eq!(second.held(&sysfs).unwrap(), [Path::new("/dev/pmem0")]);
        assert_eq!(first.held(&sysfs).unwrap(), [Path::new("/dev/pmem2")]);
        let none = Claim::new(uuid, 1, "guest").unwrap();
        assert_eq!(none.held(&sysfs).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(Claim::all(&sysfs).unwrap(), [first, second]);
        assert_eq!(Claim::all(&SysfsRoot::new(folder.path().join("nothing"))).unwrap(), []);
    }

    #[test]
    fn claims_on_a_disk_are_those_of_its_partitions() {
        let folder = tempfile::tempdir().unwrap();
        let claims = [2, 1].map(|partition| Claim::new(Uuid::from_u128(7), partition, "guest").unwrap());
        for claim in &claims {
            let partition = folder.path().join(format!("pmem0p{}", claim.partition()));
            let holder = partition.join("holders/dm-0/dm");
            std::fs::create_dir_all(&holder).unwrap();
            std::fs::write(partition.join("partition"), claim.partition().to_string()).unwrap();
            std::fs::write(holder.join("uuid"), claim.label() + "\n").unwrap();
        }
        std::fs::create_dir_all(folder.path().join("pmem0p3/holders")).unwrap();
        std::fs::write(folder.path().join("pmem0p3/partition"), "3").unwrap();
        std::fs::create_dir_all(folder.path().join("queue")).unwrap();
        std::fs::write(folder.path().join("size"), "8").unwrap();
        let [second, first] = claims;
        let disk = SysfsRoot::new(folder.path()).directory("");
        assert_eq!(Claim::on_disk(&disk).unwrap(), [first, second]);
    }

    #[test]
    fn other_labels_are_not_claims() {
        let label = Claim::new(Uuid::from_u128(7), 1, "guest").unwrap().label();
        for other in [
            "",
            "LVM-0123456789",
            "XENPMEM-",
            &label.replace("XENPMEM", "XENPMEN"),
            &label.replace("-1-guest", "-01-guest"),
            &label.replace("-1-guest", "-+1-guest"),
            &label.replace("-1-guest", "-1-"),
            &label.replace("-1-guest", "-guest"),
            &label.replace("00000007", "0000000G"),
        ] {
            assert_eq!(Claim::from_label(other), None, "{other}");
        }
    }
}
