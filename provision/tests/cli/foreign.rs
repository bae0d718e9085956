//! What belongs to other tools: each makes its own where it is at hand, others are laid down by hand as libblkid's sources have them.

use super::{Images, MIB, provision, restore, sentence};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// Somebody else's structures: how they get onto an image, and what the refusal says of them.
struct Foreign {
    name: &'static str,
    size: u64,
    make: fn(&Path),
    says: &'static str,
}

const SIZE: u64 = 128 * MIB;

/// Runs a tool on an image.
fn run(image: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).arg(image).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask test` installs it"));
    assert!(output.status.success(), "{program}: {output:?}");
}

/// Makes a tool's content as it stands on a device that begins `start` bytes into the image.
fn run_at(image: &Path, start: u64, program: &str, arguments: &[&str]) {
    let inner = image.with_extension("inner");
    let size = std::fs::metadata(image).unwrap().len() - start;
    File::create(&inner).unwrap().set_len(size).unwrap();
    run(&inner, program, arguments);
    let content = std::fs::read(&inner).unwrap();
    for (piece, at) in content.chunks(4096).zip((start..).step_by(4096)) {
        if piece.iter().any(|byte| *byte != 0) {
            put(image, at, piece);
        }
    }
    std::fs::remove_file(inner).unwrap();
}

fn put(image: &Path, offset: u64, bytes: &[u8]) {
    File::options()
        .write(true)
        .open(image)
        .unwrap()
        .write_all_at(bytes, offset)
        .unwrap();
}

/// Returns the pages of an image that are not zero, without reading its holes.
fn content(image: &Path) -> Vec<(u64, Vec<u8>)> {
    use xen_pmem_format::read::ReadAt;
    use xen_pmem_format::units::DeviceOffset;
    let file = File::open(image).unwrap();
    let size = size_of(image);
    let mut pages = Vec::new();
    let mut from = 0;
    while let Some(DeviceOffset(at)) = ReadAt::next_data(&file, DeviceOffset(from)).filter(|at| at.0 < size) {
        let at = at / 4096 * 4096;
        let mut page = vec![0; usize::try_from((size - at).min(4096)).unwrap()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut page, at).unwrap();
        if page.iter().any(|byte| *byte != 0) {
            pages.push((at, page));
        }
        from = at + 4096;
    }
    pages
}

fn size_of(image: &Path) -> u64 {
    std::fs::metadata(image).unwrap().len()
}

/// Writes a version 1 super block of md at `offset` (Linux `include/uapi/linux/raid/md_p.h`).
fn md(image: &Path, offset: u64) {
    put(image, offset, &0xa92b_4efc_u32.to_le_bytes());
    put(image, offset + 4, &1u32.to_le_bytes());
    put(image, offset + 144, &(offset / 512).to_le_bytes());
}

/// Writes the uberblocks of a label of ZFS, for blocks of 4 KiB.
fn zfs(image: &Path, label: u64) {
    for number in 0..32 {
        put(image, label + 0x2_0000 + number * 4096, &0x00ba_b10c_u64.to_le_bytes());
    }
}

const FOREIGN: &[Foreign] = &[
    Foreign {
        name: "ext4",
        size: SIZE,
        make: |image| run(image, "mke2fs", &["-q", "-t", "ext4"]),
        says: "a file system (ext4) at offset 0x438",
    },
    Foreign {
        name: "ext4 at 2 MiB, as an fsdax namespace has it",
        size: SIZE,
        make: |image| run_at(image, 2 * MIB, "mke2fs", &["-q", "-t", "ext4"]),
        says: "a file system (ext4) that begins at 0x200000, at offset 0x200438",
    },
    Foreign {
        name: "ext4 at 1 MiB",
        size: SIZE,
        make: |image| run_at(image, MIB, "mke2fs", &["-q", "-t", "ext4"]),
        says: "a file system (ext4) that begins at 0x100000, at offset 0x100438",
    },
    Foreign {
        name: "swap",
        size: SIZE,
        make: |image| run(image, "mkswap", &[]),
        says: "a swap area at offset 0xff6",
    },
    Foreign {
        name: "vfat on the whole disk",
        size: SIZE,
        make: |image| run(image, "mkfs.vfat", &["-I"]),
        says: "a file system (vfat)",
    },
    Foreign {
        name: "xfs",
        size: 512 * MIB,
        make: |image| run(image, "mkfs.xfs", &["-q"]),
        says: "a file system (xfs) at offset 0x0",
    },
    Foreign {
        name: "btrfs",
        size: 256 * MIB,
        make: |image| run(image, "mkfs.btrfs", &["-q"]),
        says: "a file system (btrfs) at offset 0x10040",
    },
    Foreign {
        name: "md 0.90",
        size: SIZE,
        make: |image| {
            let at = size_of(image) - (64 << 10);
            put(image, at, &0xa92b_4efc_u32.to_le_bytes());
            put(image, at + 8, &90u32.to_le_bytes());
        },
        says: "a member of an md RAID at offset 0x7ff0000",
    },
    Foreign {
        name: "md 1.0",
        size: SIZE,
        make: |image| md(image, size_of(image) - 8192),
        says: "a member of an md RAID at offset 0x7ffe000",
    },
    Foreign {
        name: "md 1.1",
        size: SIZE,
        make: |image| md(image, 0),
        says: "a member of an md RAID at offset 0x0",
    },
    Foreign {
        name: "md 1.2",
        size: SIZE,
        make: |image| md(image, 4096),
        says: "a member of an md RAID at offset 0x1000",
    },
    Foreign {
        name: "luks",
        size: SIZE,
        make: |image| put(image, 0, b"LUKS\xba\xbe\0\x01"),
        says: "a LUKS container at offset 0x0",
    },
    Foreign {
        name: "lvm",
        size: SIZE,
        make: |image| {
            put(image, 0x200, b"LABELONE");
            put(image, 0x208, &1u64.to_le_bytes());
            put(image, 0x214, &32u32.to_le_bytes());
            put(image, 0x218, b"LVM2 001");
        },
        says: "an LVM physical volume at offset 0x218",
    },
    Foreign {
        name: "bcache",
        size: SIZE,
        make: |image| {
            put(image, 0x1008, &8u64.to_le_bytes());
            put(
                image,
                0x1018,
                &[
                    0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
                ],
            );
        },
        says: "a bcache device at offset 0x1018",
    },
    Foreign {
        name: "zfs",
        size: SIZE,
        make: |image| zfs(image, 0),
        says: "a member of a ZFS pool",
    },
    Foreign {
        name: "zfs, the last labels only, on a device of an odd size",
        size: SIZE + 100 * 1024,
        make: |image| {
            zfs(image, SIZE - (512 << 10));
            zfs(image, SIZE - (256 << 10));
        },
        says: "a member of a ZFS pool",
    },
    Foreign {
        name: "vmfs",
        size: SIZE,
        make: |image| put(image, 0x10_0000, &[0x0d, 0xd0, 0x01, 0xc0]),
        says: "(VMFS_volume_member) at offset 0x100000",
    },
    Foreign {
        name: "vmfs, its file system",
        size: SIZE,
        make: |image| put(image, 0x20_0000, &[0x5e, 0xf1, 0xab, 0x2f]),
        says: "a file system (VMFS) at offset 0x200000",
    },
    Foreign {
        name: "Intel's firmware RAID",
        size: SIZE,
        make: |image| put(image, size_of(image) - 1024, b"Intel Raid ISM Cfg Sig. 1.0.00"),
        says: "(isw_raid_member) at offset 0x7fffc00",
    },
    Foreign {
        name: "DDF",
        size: SIZE,
        make: |image| put(image, size_of(image) - 512, &[0xde, 0x11, 0xde, 0x11]),
        says: "(ddf_raid_member) at offset 0x7fffe00",
    },
    Foreign {
        name: "DDF, 128 KiB before the end",
        size: SIZE,
        make: |image| put(image, size_of(image) - 257 * 512, &[0xde, 0x11, 0xde, 0x11]),
        says: "(ddf_raid_member) at offset 0x7fdfe00",
    },
    Foreign {
        name: "Adaptec's firmware RAID",
        size: SIZE,
        make: |image| {
            let last = size_of(image) - 512;
            put(image, last, &[0x37, 0xfc, 0x4d, 0x1e]);
            put(image, last + 0x100, b"DPTM");
        },
        says: "(adaptec_raid_member) at offset 0x7fffe00",
    },
    Foreign {
        name: "an MBR partition table",
        size: SIZE,
        make: |image| put(image, 0, &super::bad_input::mbr()),
        says: "an MBR partition table at offset 0x1fe",
    },
    Foreign {
        name: "libnvdimm's fsdax info block",
        size: SIZE,
        make: |image| put(image, 0x1000, b"NVDIMM_PFN_INFO\0"),
        says: "libnvdimm's fsdax info block at offset 0x1000",
    },
    Foreign {
        name: "libnvdimm's devdax info block",
        size: SIZE,
        make: |image| put(image, 0x1000, b"NVDIMM_DAX_INFO\0"),
        says: "libnvdimm's devdax info block at offset 0x1000",
    },
    Foreign {
        name: "libnvdimm's BTT info block",
        size: SIZE,
        make: |image| put(image, 0x1000, b"BTT_ARENA_INFO\0\0"),
        says: "libnvdimm's BTT info block at offset 0x1000",
    },
    Foreign {
        name: "two at once",
        size: SIZE,
        make: |image| {
            md(image, size_of(image) - 8192);
            put(image, 0, b"LUKS\xba\xbe\0\x01");
        },
        says: "a member of an md RAID at offset 0x7ffe000, a LUKS container at offset 0x0",
    },
    Foreign {
        name: "a byte before the super blocks",
        size: SIZE,
        make: |image| put(image, 0x1_2345, &[1]),
        says: "data of an unknown kind at offset 0x12345",
    },
    Foreign {
        name: "a byte on a super block's place",
        size: SIZE,
        make: |image| put(image, 0x18_0040, &[1]),
        says: "data of an unknown kind at offset 0x180040",
    },
    Foreign {
        name: "a byte where Xen's area begins",
        size: SIZE,
        make: |image| put(image, 0x20_0000, &[1]),
        says: "data of an unknown kind at offset 0x200000",
    },
    Foreign {
        name: "the last byte of Xen's area",
        size: SIZE,
        make: |image| put(image, 0x9f_ffff, &[1]),
        says: "data of an unknown kind at offset 0x9fffff",
    },
    Foreign {
        name: "a file system's inner part, its start lost, where Xen's area would be",
        size: SIZE,
        make: |image| put(image, 0x45_6789, b"a directory"),
        says: "data of an unknown kind at offset 0x456789",
    },
    Foreign {
        name: "the backup table's first byte",
        size: SIZE,
        make: |image| put(image, size_of(image) - 33 * 512, &[1]),
        says: "data of an unknown kind at offset 0x7ffbe00",
    },
    Foreign {
        name: "the last byte",
        size: SIZE,
        make: |image| put(image, size_of(image) - 1, &[1]),
        says: "data of an unknown kind at offset 0x7ffffff",
    },
];

#[test]
fn what_is_somebody_elses_is_not_overwritten() {
    let images = Images::new();
    for (number, foreign) in FOREIGN.iter().enumerate() {
        let (name, file) = (foreign.name, number.to_string());
        let path = images.with(&file, foreign.size, &[]);
        (foreign.make)(&path);
        let before = content(&path);
        for arguments in [&["init"][..], &["init", "--dry-run"]] {
            let refused = provision(arguments, &path).code(3);
            let said = sentence(&refused, &path);
            assert!(
                said.contains(foreign.says) && said.contains("--force"),
                "{name}: {said}"
            );
        }
        assert!(content(&path) == before, "{name} was changed");
        provision(&["init", "-q", "--force", "--dry-run"], &path).success();
        assert!(content(&path) == before, "{name} was changed by a dry run");
        provision(&["init", "-q", "--force"], &path).success();
        // What was overwritten was saved beside it, and can be put back.
        let saved = images.only_backup_of(&file);
        restore(&path, &[saved.to_str().unwrap(), "-q", "--force"]).success();
        assert!(content(&path) == before, "{name} is not as it was");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_new_partitions_show_again_is_named_and_stays() {
    let images = Images::new();
    let path = images.with("image", SIZE, &[]);
    // By default the first partition begins at 10 MiB.
    run_at(&path, 10 * MIB, "mke2fs", &["-q", "-t", "ext4"]);
    let before = content(&path);
    let words = "there is a file system (ext4) in partition 1 at offset 0xa00438";
    for arguments in [&["init", "-q", "--dry-run"][..], &["init", "-q"]] {
        let done = provision(arguments, &path).success();
        let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
        assert!(said.contains(words), "{said}");
    }
    let mut after = content(&path);
    after.retain(|(offset, _)| (10 * MIB..SIZE - 64 * 1024).contains(offset));
    assert!(before == after, "the partition was changed");
    // What stands in the way is named together with it.
    let other = images.with("other", SIZE, &[(77, b"x")]);
    run_at(&other, 10 * MIB, "mke2fs", &["-q", "-t", "ext4"]);
    let said = sentence(&provision(&["init"], &other).code(3), &other);
    assert!(
        said.contains("data of an unknown kind at offset 0x4d, a file system (ext4) in partition 1"),
        "{said}"
    );
}
