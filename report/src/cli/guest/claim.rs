//! `guest claim`: claims partitions, and writes what a guest's configuration needs.

use super::super::{SCHEMA, When, scan_host, take_turn};
use super::{device_mapper, domain_names, name_of, refused};
use crate::guest::dm::{self, DeviceMapper};
use crate::guest::partition::{self, Partition};
use crate::guest::placement::{Placed, place};
use crate::guest::tables;
use crate::report::{self, Report};
use crate::xenstore::XenStore;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use xen_pmem_cli::exit::{ExitStatus, Exits as _};
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::units::{Bytes, PhysRange};
use xen_pmem_nvdimm::fsdax;
use xen_pmem_nvdimm::guest_claim::Claim;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

/// What this way lacks. Each stands in the configuration as a comment.
const MISSING: [&str; 5] = [
    "the guest's mapping is uncached: reads and writes are many times slower than in Dom0",
    "Xen counts no references to these frames: they must not be given to another domain by hand while this one has them",
    "no grants and no emulated DMA: O_DIRECT from a DAX mapping to a PV disk fails in the guest",
    "`xl save` and `xl migrate` are not refused, and lose what is in the partition from the image: do not use them",
    "machine addresses can change at each boot of the host: run this command again then, before the guest starts",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Partitions by node (/dev/pmem0p1), in the order in which the guest finds them
    #[arg(required = true)]
    partitions: Vec<PathBuf>,
    /// The name of the domain that is to have them; it must not be there yet
    #[arg(long, value_name = "NAME")]
    domain: String,
    /// Write the ramdisk for the guest's configuration to this file
    #[arg(long, value_name = "FILE")]
    ramdisk: PathBuf,
    /// The guest's initramfs, to be put behind the tables
    #[arg(long, value_name = "FILE")]
    initrd: PathBuf,
    /// At most this much memory the guest has (`maxmem`): it finds the partitions above
    #[arg(long, value_name = "SIZE", default_value = "64G")]
    memory: Bytes,
}

/// The document.
#[derive(Serialize)]
struct Document {
    schema: u32,
    domain: String,
    partitions: Vec<Claimed>,
    iomem: Vec<String>,
    ramdisk: String,
    missing: Vec<&'static str>,
    notes: Vec<String>,
}

/// A claimed partition. Addresses and sizes are bytes.
#[derive(Serialize)]
struct Claimed {
    device: String,
    claim: String,
    machine_base: u64,
    guest_base: u64,
    size: u64,
}

/// A partition to claim.
struct Wanted {
    device: String,
    partition: Partition,
    claim: Claim,
    machine: PhysRange,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let _turn = take_turn()?;
    let wanted = look(arguments)?;
    if domain_names()?.contains(&arguments.domain) {
        let error = format!(
            "domain {} is there already: a guest gets its partitions when it is created; shut it down first",
            arguments.domain
        );
        return Err(Failure::new(ExitStatus::Refused, error));
    }
    let machine: Vec<PhysRange> = wanted.iter().map(|wanted| wanted.machine).collect();
    let placed = place(&machine, arguments.memory)
        .ok_or_else(|| Failure::new(ExitStatus::Usage, "--memory: nothing fits above so much memory"))?;
    let iomem = iomem(&wanted, &placed)?;
    let ramdisk = ramdisk(arguments, &wanted, &placed)?;
    let mapper = device_mapper()?;
    claim_all(&mapper, &wanted)?;
    if let Err(error) = write(&arguments.ramdisk, &ramdisk) {
        release_all(&mapper, &wanted);
        let error = format!("{}: cannot be written: {error}", arguments.ramdisk.display());
        return Err(Failure::new(ExitStatus::Failed, error));
    }
    let document = document(arguments, &wanted, &placed, iomem);
    flags.print(&document, || text(&document))?;
    Ok(ExitStatus::Done)
}

/// Looks at the partitions: whether they are there, on prepared devices, and not a guest's disks.
fn look(arguments: &Arguments) -> Result<Vec<Wanted>, Failure> {
    let root = SysfsRoot::default();
    let (scan, _) = scan_host(&[], When::Late)?;
    let reports = report::of_all(&scan.devices);
    let mut all: Vec<Wanted> = Vec::new();
    for path in &arguments.partitions {
        let device = name_of(path);
        let fail = |status, error: String| Failure::new(status, format!("{device}: {error}"));
        let partition = partition::find(&root, path).map_err(|error| fail(error.exit_status(), error.told()))?;
        let disk = partition.disk.display().to_string();
        let report = reports.iter().find(|(device, _)| device.device == disk);
        let report: &Report = match report {
            Some((_, Ok(report))) => report,
            Some((_, Err(refusal))) => return Err(fail(ExitStatus::Refused, format!("{disk}: {}", refusal.told()))),
            None => return Err(fail(ExitStatus::NothingPrepared, format!("{disk} is not prepared"))),
        };
        let found = report.data().iter().find(|data| data.number == partition.number);
        let machine = found.map(|data| data.range.0).ok_or_else(|| {
            let error = format!("the partition table of {disk} has no partition {}", partition.number);
            fail(ExitStatus::Refused, error)
        })?;
        if all.iter().any(|other| other.partition == partition) {
            return Err(fail(ExitStatus::Usage, "is named twice".to_owned()));
        }
        let claim = Claim::new(report.uuid(), partition.number, &arguments.domain);
        let claim = claim.map_err(|error| Failure::new(ExitStatus::Usage, format!("--domain: {error}")))?;
        all.push(Wanted {
            device,
            partition,
            claim,
            machine,
        });
    }
    Ok(all)
}

/// Returns the entries of `iomem=`.
fn iomem(wanted: &[Wanted], placed: &[Placed]) -> Result<Vec<String>, Failure> {
    let entry = |(wanted, placed): (&Wanted, &Placed)| {
        placed.iomem().ok_or_else(|| {
            let error = format!(
                "{}: is not made of whole 4 KiB pages, which a guest could be given",
                wanted.device
            );
            Failure::new(ExitStatus::Refused, error)
        })
    };
    wanted.iter().zip(placed).map(entry).collect()
}

/// Returns the tables' archive, and the guest's initramfs behind it.
fn ramdisk(arguments: &Arguments, wanted: &[Wanted], placed: &[Placed]) -> Result<Vec<u8>, Failure> {
    let partitions: Vec<(Placed, u32)> = wanted
        .iter()
        .zip(placed)
        .map(|(wanted, placed)| (*placed, serial(&wanted.claim)))
        .collect();
    let mut ramdisk =
        tables::archive(&partitions).map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()))?;
    let read = File::open(&arguments.initrd).and_then(|mut file| io::copy(&mut file, &mut ramdisk));
    read.map_err(|error| {
        let error = format!("{}: cannot be read: {error}", arguments.initrd.display());
        Failure::new(ExitStatus::Failed, error)
    })?;
    Ok(ramdisk)
}

/// Returns a serial number made from the UUID of the reservation and the partition's number, so that it does not depend on the address.
fn serial(claim: &Claim) -> u32 {
    let uuid = claim.reservation().into_bytes();
    let (words, _) = uuid.as_chunks::<4>();
    words.iter().fold(claim.partition(), |sum, word| {
        sum.rotate_left(5) ^ u32::from_le_bytes(*word)
    })
}

/// Claims all, or none.
fn claim_all(mapper: &DeviceMapper, wanted: &[Wanted]) -> Result<(), Failure> {
    for (index, one) in wanted.iter().enumerate() {
        if let Err(error) = mapper.claim(&one.claim, &one.partition) {
            release_all(mapper, wanted.get(..index).unwrap_or_default());
            let holder = match error {
                dm::Error::Claimed => mapper
                    .claims()
                    .ok()
                    .and_then(|claims| claims.into_iter().find(|claim| claim.name() == one.claim.name())),
                _ => None,
            };
            return Err(match holder {
                Some(holder) => Failure::new(
                    ExitStatus::Refused,
                    format!(
                        "{}: is claimed for domain {}; to take it back, `xen-pmem-report guest release {}`",
                        one.device,
                        holder.domain(),
                        one.device
                    ),
                ),
                None => refused(&one.device, &error),
            });
        }
    }
    Ok(())
}

fn release_all(mapper: &DeviceMapper, claimed: &[Wanted]) {
    for one in claimed {
        if let Err(error) = mapper.release(&one.claim) {
            tracing::error!("{}: {error}", one.device);
        }
    }
}

/// Writes a file that is whole or not there: beside it first, then in its place.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // Why it failed counts, not that it stays.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn document(arguments: &Arguments, wanted: &[Wanted], placed: &[Placed], iomem: Vec<String>) -> Document {
    let mut notes = Vec::new();
    for (wanted, placed) in wanted.iter().zip(placed) {
        if let Some(objection) = fsdax::objection(placed.guest) {
            notes.push(format!(
                "{}: Linux in the guest cannot make it fsdax (DAX): {objection}",
                wanted.device
            ));
        }
    }
    let registered = XenStore::connect()
        .and_then(|store| store.published())
        .is_ok_and(|published| {
            published.iter().any(|published| {
                published
                    .verdict()
                    .is_some_and(|verdict| verdict != crate::sink::Registration::Unsupported)
            })
        });
    if registered {
        notes.push(
            "this Xen knows persistent memory: if its xl knows `pmem=` (man xl.cfg), use that, which lacks none of this".to_owned(),
        );
    }
    let partitions = wanted.iter().zip(placed).map(|(wanted, placed)| Claimed {
        device: wanted.device.clone(),
        claim: wanted.claim.name(),
        machine_base: placed.machine.base().0,
        guest_base: placed.guest.base().0,
        size: placed.machine.size().0,
    });
    Document {
        schema: SCHEMA,
        domain: arguments.domain.clone(),
        partitions: partitions.collect(),
        iomem,
        ramdisk: arguments.ramdisk.display().to_string(),
        missing: MISSING.to_vec(),
        notes,
    }
}

/// Lines for the guest's configuration; all else is comment there.
fn text(document: &Document) -> String {
    let mut text = String::new();
    for claimed in &document.partitions {
        let size = Bytes(claimed.size);
        text.push_str(&format!(
            "# {}, {size}, at {:#x} in the guest, is claimed for domain {}\n",
            claimed.device, claimed.guest_base, document.domain
        ));
    }
    let entries: Vec<String> = document.iomem.iter().map(|entry| format!("'{entry}'")).collect();
    text.push_str("type = 'pvh'\n");
    text.push_str(&format!("iomem = [ {} ]\n", entries.join(", ")));
    text.push_str(&format!("ramdisk = '{}'\n", document.ramdisk));
    for note in &document.notes {
        text.push_str(&format!("# note: {note}\n"));
    }
    for missing in &document.missing {
        text.push_str(&format!("# missing on this Xen: {missing}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ramdisk");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        // What somebody else writes at the same time is left alone.
        fs::write(folder.path().join("ramdisk.new"), b"theirs").unwrap();
        assert!(write(&path, b"third").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"second");
        fs::remove_file(folder.path().join("ramdisk.new")).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"fourth").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn serial_numbers_follow_from_the_reservation_and_the_partition() {
        let serial = |uuid, partition| serial(&Claim::new(uuid::Uuid::from_u128(uuid), partition, "guest").unwrap());
        assert_eq!(serial(7, 1), serial(7, 1));
        assert!(serial(7, 1) != serial(7, 2) && serial(7, 1) != serial(8, 1));
    }
}
