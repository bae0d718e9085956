//! What the firmware's NFIT says decides what Dom0 can report, and Xen reads the table as the tools do.
//!
//! The machines have tables and no memory where the tables say that it is: a dry run looks at no memory.

use super::Run;
use super::xen_refuses::pmemctl;
use crate::frames::FRAME;
use crate::image::MIB;
use crate::machine::{Config, Kind};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use uuid::Uuid;
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use xen_pmem_nvdimm::nfit::{self, Nfit, PERSISTENT_MEMORY, State, Table};

const GIB: u64 = 1024 * MIB;
/// The size of each range.
const SIZE: u64 = 128 * MIB;
/// Memory mapping attributes without write-back: uncached, write-combining, write-through, non-volatile (UEFI Specification 2.10, 7.2.3).
const NOT_WRITE_BACK: u64 = 0x8007;
/// `EFI_MEMORY_WB`.
const WRITE_BACK: u64 = 0x8;
/// The type of a range that is volatile memory (ACPI Specification 6.5, 5.2.25.2).
const VOLATILE: Uuid = Uuid::from_u128(0x7305944f_fdda_44e3_b16c_3f22d252e5d0);
/// A list of structures ends with one of length zero.
const END: [u8; 4] = [0; 4];
/// A range's structure (type 0) that is shorter than one.
const SHORT: [u8; 20] = {
    let mut bytes = [0; 20];
    bytes[2] = 20;
    bytes
};

/// What firmware declares at an address, and what Xen has against a report of it; `None` if nothing.
struct Case {
    what: &'static str,
    gib: u64,
    objection: Option<&'static str>,
}

const NOTHING_THERE: &str = "firmware declares no persistent memory there";
const FLAGGED: &str = "firmware flags its NVDIMMs as not armed or not mapped";

const CASES: [Case; 9] = [
    Case {
        what: "a range and an NVDIMM that is well",
        gib: 8,
        objection: None,
    },
    Case {
        what: "a range that must not be mapped write-back",
        gib: 9,
        objection: Some("firmware doesn't allow it to be mapped write-back"),
    },
    Case {
        what: "a range that is good, and the same again with an NVDIMM that is not armed",
        gib: 10,
        objection: Some(FLAGGED),
    },
    Case {
        what: "an NVDIMM whose other mapping says that it is not mapped",
        gib: 11,
        objection: Some(FLAGGED),
    },
    Case {
        what: "an NVDIMM that lost data",
        gib: 13,
        objection: None,
    },
    Case {
        what: "volatile memory",
        gib: 14,
        objection: Some(NOTHING_THERE),
    },
    Case {
        what: "a range of number 0",
        gib: 15,
        objection: Some(NOTHING_THERE),
    },
    Case {
        what: "a range that another one overlaps in part",
        gib: 16,
        objection: Some("crosses the bounds of firmware's persistent memory range"),
    },
    Case {
        what: "nothing",
        gib: 17,
        objection: Some(NOTHING_THERE),
    },
];

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let table = sound()?;
    let nfit = nfit::parse(&table)?;
    let mut vm = boot(run, &table)?;
    for case in &CASES {
        run.step(case.what);
        check(&mut vm, case)?;
        ensure!(
            tools_accept(&nfit, range(case.gib)?) == case.objection.is_none(),
            "{}: the tools read the table in another way",
            case.what
        );
    }
    run.power_off(vm)?;

    let table = Table::default()
        .range(1, range(8)?)
        .structure(&SHORT)
        .to_bytes()
        .context("the table is too long")?;
    ensure!(nfit::parse(&table).is_err(), "the tools take a table that is malformed");
    let mut vm = boot(run, &table)?;
    run.step("a table with a malformed structure says nothing");
    check(
        &mut vm,
        &Case {
            what: "a range in a table that is malformed",
            gib: 8,
            objection: Some(NOTHING_THERE),
        },
    )?;
    run.power_off(vm)
}

/// Returns a table with all the cases.
fn sound() -> Result<Vec<u8>> {
    let lost = [State::SAVE_FAILED, State::RESTORE_FAILED, State::FLUSH_FAILED].map(|state| state.0);
    let lost = State(lost.into_iter().fold(0, |all, one| all | one));
    let size = Bytes(SIZE);
    let at = |gib: u64| PhysAddr(gib * GIB);
    let table = Table::default()
        .range(1, range(8)?)
        .mapping(1, 1, State(0))
        .range_as(PERSISTENT_MEMORY, 2, at(9), size, NOT_WRITE_BACK)
        .mapping(2, 2, State(0))
        .range(3, range(10)?)
        .mapping(3, 3, State(0))
        .range(4, range(10)?)
        .mapping(4, 4, State::NOT_ARMED)
        .range(5, range(11)?)
        .mapping(5, 5, State(0))
        .range(6, range(12)?)
        .mapping(5, 6, State::MAP_FAILED)
        .range(7, range(13)?)
        .mapping(7, 7, lost)
        .range_as(VOLATILE, 8, at(14), size, WRITE_BACK)
        .range(0, range(15)?)
        .range(9, range(16)?)
        .range_of(PERSISTENT_MEMORY, 10, PhysAddr(16 * GIB + SIZE / 2), size)
        .structure(&END)
        // Behind the end: of no effect on the first range.
        .mapping(1, 1, State::NOT_ARMED);
    table.to_bytes().context("the table is too long")
}

fn range(gib: u64) -> Result<PhysRange> {
    PhysRange::new(PhysAddr(gib * GIB), Bytes(SIZE)).context("a range beyond all addresses")
}

/// Returns whether the tools would have Xen keep its structures there: a range of the table has all of it, and none that it touches is
/// unfit.
fn tools_accept(nfit: &Nfit, wanted: PhysRange) -> bool {
    let mut touched = nfit.ranges.iter().filter(|it| it.range.overlaps(wanted)).peekable();
    touched.peek().is_some() && touched.all(|it| it.range.contains(wanted) && it.obstacle().is_none())
}

/// Returns a Dom0 on a machine whose firmware has this NFIT.
fn boot(run: &Run<'_>, table: &[u8]) -> Result<Vm> {
    run.step("boot Xen with an NFIT");
    let file = run.folder.join("nfit");
    fs::write(&file, table)?;
    let mut vm = run.boot_as(Config {
        acpi_tables: vec![file],
        ..Config::new(Kind::Xen, Vec::new())
    })?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    Ok(vm)
}

/// Asks Xen whether it accepts a report.
fn check(vm: &mut Vm, case: &Case) -> Result<()> {
    let start = case.gib * GIB / FRAME;
    let reserved = 8 * MIB / FRAME;
    let ranges = [start, start + SIZE / FRAME, start, start + reserved];
    vm.run("xl dmesg -c")?;
    let code = i32::from(case.objection.is_some());
    let said = pmemctl(vm, code, "dry-run", ranges)?;
    let log = vm.run("xl dmesg")?;
    match case.objection {
        None => ensure!(said.contains("frames needed"), "{}: pmemctl says {said}", case.what),
        Some(objection) => ensure!(
            said.contains("out of range") && log.contains(objection),
            "{}: pmemctl says {said}, the log {log}",
            case.what
        ),
    }
    Ok(())
}
