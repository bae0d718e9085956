//! The ACPI tables that tell a guest's Linux of its partitions, as an archive to stand in front of its initramfs.
//!
//! Linux takes tables from `kernel/firmware/acpi` of an uncompressed archive (CONFIG_ACPI_TABLE_UPGRADE,
//! `Documentation/admin-guide/acpi/initrd_table_override.rst`): the NFIT, and an SSDT with the device `ACPI0012` that the driver nfit
//! binds to, with a child for each NVDIMM (ACPI Specification 6.5, 9.19).

use super::placement::Placed;
use acpi_tables::Aml as _;
use acpi_tables::aml::{Device, Name, Scope};
use acpi_tables::sdt::Sdt;
use cpio::newc::{Builder, ModeFileType, trailer};
use std::io;
use xen_pmem_nvdimm::nfit::Table;

/// Where Linux looks for tables.
const FOLDER: &str = "kernel/firmware/acpi";
/// An archive is a multiple of this number of bytes long.
const BLOCK: usize = 512;

/// Returns the archive for a guest with these partitions. Their serial numbers follow from what they are, so that they are the same at each
/// boot.
///
/// # Errors
///
/// If there are more partitions than a table can have.
pub fn archive(partitions: &[(Placed, u32)]) -> io::Result<Vec<u8>> {
    let too_many = || io::Error::other("there are too many partitions for one table");
    let mut nfit = Table::default();
    for (index, (placed, serial)) in (1..).zip(partitions) {
        nfit = nfit.nvdimm(index, placed.guest, *serial);
    }
    let nfit = nfit.to_bytes().ok_or_else(too_many)?;
    let count = u16::try_from(partitions.len()).map_err(|_| too_many())?;
    let mut archive = Vec::new();
    let mut inode = 0;
    for (depth, _) in FOLDER.match_indices('/').chain([(FOLDER.len(), "")]) {
        let folder = FOLDER.get(..depth).unwrap_or(FOLDER);
        entry(&mut archive, &mut inode, folder, ModeFileType::Directory, &[])?;
    }
    for (name, table) in [("nfit", nfit), ("ssdt", ssdt(count))] {
        let name = format!("{FOLDER}/{name}.aml");
        entry(&mut archive, &mut inode, &name, ModeFileType::Regular, &table)?;
    }
    trailer(&mut archive)?;
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    Ok(archive)
}

fn entry(archive: &mut Vec<u8>, inode: &mut u32, name: &str, kind: ModeFileType, content: &[u8]) -> io::Result<()> {
    *inode = inode.saturating_add(1);
    let permissions = if matches!(kind, ModeFileType::Directory) {
        0o755
    } else {
        0o644
    };
    let builder = Builder::new(name)
        .ino(*inode)
        .nlink(1)
        .mode(permissions)
        .set_mode_file_type(kind);
    let size = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut writer = builder.write(archive, size);
    io::Write::write_all(&mut writer, content)?;
    writer.finish()?;
    Ok(())
}

/// Returns the definition block: `ACPI0012` with a child for each of `count` NVDIMMs, whose `_ADR` is its handle in the NFIT.
fn ssdt(count: u16) -> Vec<u8> {
    let addresses: Vec<(String, Name)> = (1..=count)
        .map(|handle| (format!("N{handle:03X}"), Name::new("_ADR".into(), &handle)))
        .collect();
    let nvdimms: Vec<Device<'_>> = addresses
        .iter()
        .map(|(name, address)| Device::new(name.as_str().into(), vec![address]))
        .collect();
    let id = Name::new("_HID".into(), &"ACPI0012");
    let status = Name::new("_STA".into(), &0x0fu8);
    let mut children: Vec<&dyn acpi_tables::Aml> = vec![&id, &status];
    children.extend(nvdimms.iter().map(|nvdimm| nvdimm as &dyn acpi_tables::Aml));
    let root = Device::new("NVDR".into(), children);
    let mut table = Sdt::new(*b"SSDT", 36, 2, *b"XENPMM", *b"XENPMEM ", 1);
    Scope::new("\\_SB_".into(), vec![&root]).to_aml_bytes(&mut table);
    table.update_checksum();
    table.as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::placement::place;
    use super::*;
    use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
    use xen_pmem_nvdimm::nfit;

    fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut rest = io::Cursor::new(archive);
        let mut files = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return files;
            }
            let name = reader.entry().name().to_owned();
            let mut content = Vec::new();
            rest = reader.to_writer(&mut content).unwrap();
            files.push((name, content));
        }
    }

    #[test]
    fn the_archive_has_both_tables_where_linux_looks() {
        let range = |base| PhysRange::new(PhysAddr(base), Bytes(16 << 20)).unwrap();
        let placed = place(&[range(1 << 33), range(1 << 34)], Bytes(1 << 30)).unwrap();
        let archive = archive(&[(placed[0], 7), (placed[1], 8)]).unwrap();
        assert!(archive.starts_with(b"070701") && archive.len().is_multiple_of(512));
        let files = files(&archive);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "kernel",
                "kernel/firmware",
                "kernel/firmware/acpi",
                "kernel/firmware/acpi/nfit.aml",
                "kernel/firmware/acpi/ssdt.aml"
            ]
        );
        let found = nfit::parse(&files[3].1).unwrap();
        let ranges: Vec<_> = found.ranges.iter().map(|range| range.range).collect();
        assert_eq!(ranges, [placed[0].guest, placed[1].guest]);
        let ssdt = &files[4].1;
        assert_eq!(ssdt.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(u32::from_le_bytes(ssdt[4..8].try_into().unwrap()) as usize, ssdt.len());
        let has = |bytes: &[u8]| ssdt.windows(bytes.len()).any(|window| window == bytes);
        assert!(ssdt.starts_with(b"SSDT") && has(b"ACPI0012\0") && has(b"NVDR"));
        assert!(has(b"N001") && has(b"N002") && !has(b"N003"));
    }
}
