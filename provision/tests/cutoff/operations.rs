//! The operations, each cut off everywhere.

use crate::recorder::{Recorder, cut_off_points};
use uuid::Uuid;
use xen_pmem_format::inspect::{Inspection, State, inspect};
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::{SuperBlock, UnixTime};
use xen_pmem_format::units::{Bytes, LbaSize, PhysAddr, PhysRange};
use xen_pmem_provision::backup::Backup;
use xen_pmem_provision::geometry::{Geometry, Placement};
use xen_pmem_provision::init::{self, Request};
use xen_pmem_provision::layout::{PartitionRequest, Reserve};
use xen_pmem_provision::plan::{Before, Checked, Plan};
use xen_pmem_provision::{remove, repair, resize, restore};

const SIZE: usize = 20 << 20;
/// Random subsets that are tried of the words between two flushes.
const SAMPLES: usize = 1200;

/// What a device is to its users: what a cut-off point must not mix.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    reservation: Option<SuperBlock>,
    partitions: Option<Vec<(u32, u64, u64)>>,
}

fn shown(inspection: &Inspection) -> Shown {
    let partitions = inspection.table().map(|table| {
        table
            .partitions()
            .iter()
            .map(|p| (p.number, p.range.base().0, p.range.end().0))
            .collect()
    });
    Shown {
        reservation: inspection.reservation().map(|(superblock, _)| *superblock),
        partitions,
    }
}

fn geometry() -> Geometry {
    let namespace = PhysRange::new(PhysAddr(1 << 32), Bytes(SIZE as u64)).unwrap();
    Geometry {
        device_size: Bytes(SIZE as u64),
        lba_size: LbaSize::B512,
        placement: Some(Placement {
            device_start: PhysAddr(1 << 32),
            namespace,
        }),
    }
}

fn request(number: u128, partitions: &[&str]) -> Request {
    Request {
        reserve: Reserve::Auto,
        entries: EntrySizes::XEN_X86_64,
        partitions: (1..)
            .zip(partitions)
            .map(|(n, text)| {
                let request: PartitionRequest = text.parse().unwrap();
                request.with_guid(Uuid::from_u128(number << 64 | n))
            })
            .collect(),
        uuid: Uuid::from_u128(number << 32 | 1),
        disk_guid: Uuid::from_u128(number << 32 | 2),
        now: UnixTime(1_767_225_600),
    }
}

/// Plans on a device as it is, and checks the plan.
fn checked(bytes: &Vec<u8>, force: bool, plan: impl FnOnce(&Before<'_, Vec<u8>>) -> Plan) -> Checked {
    let before = Before {
        device: bytes,
        own_lba_size: None,
        inspection: &inspect(bytes, None).unwrap(),
        force,
    };
    plan(&before).check(&before).unwrap()
}

fn init_plan(bytes: &Vec<u8>, request: &Request) -> Checked {
    checked(bytes, true, |before| {
        init::plan(before, &geometry(), request).unwrap().plan
    })
}

fn remove_plan(bytes: &Vec<u8>) -> Checked {
    checked(bytes, false, |before| remove::plan(before).unwrap())
}

fn applied(bytes: &[u8], plan: &Checked) -> Vec<u8> {
    let recorder = Recorder::new(bytes.to_vec());
    plan.apply(&recorder).unwrap();
    recorder.into_parts().0
}

fn blank() -> Vec<u8> {
    vec![0; SIZE]
}

fn prepared() -> Vec<u8> {
    let bytes = blank();
    let mut bytes = applied(&bytes, &init_plan(&bytes, &request(1, &["1M:a", "rest:b"])));
    // What users have in their partitions.
    for (index, byte) in bytes[8 << 20..SIZE - (64 << 10)].iter_mut().enumerate() {
        *byte = (index % 251) as u8;
    }
    assert_eq!(inspect(&bytes, None).unwrap().state, State::Prepared);
    bytes
}

/// Returns a small, seeded source of random numbers (xorshift64*).
fn random(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}

/// Cuts an operation off everywhere. `may_be_unprepared` says that the operation makes or removes the only reservation, so that
/// there may be none in between.
fn cut_off(name: &str, before: &[u8], plan: &Checked, may_be_unprepared: bool) {
    let recorder = Recorder::new(before.to_vec());
    plan.apply(&recorder).unwrap();
    let (after, events) = recorder.into_parts();
    let [old, new] = [before, &after].map(|bytes| shown(&inspect(bytes, None).unwrap()));
    let data = 8 << 20..SIZE - (64 << 10);
    let allowed = |bytes: &[u8]| {
        let inspection = inspect(bytes, None).unwrap();
        let now = shown(&inspection);
        let whole = now == old || now == new;
        let in_between = may_be_unprepared
            && inspection.state == State::Unprepared
            && (now.partitions.is_none() || now.partitions == old.partitions || now.partitions == new.partitions);
        assert!(
            whole || in_between,
            "{name}: {} ({})",
            inspection.state.as_str(),
            inspection.reasons()
        );
        let expected_state = inspection.state != State::Damaged;
        assert!(expected_state, "{name}: {}", inspection.reasons());
    };
    let points = cut_off_points(before, &events, SAMPLES, random(0x5eed), allowed);
    println!("{name}: {points} cut-off points");
    assert!(
        before[data.clone()] == after[data],
        "{name}: what is in the partitions stays"
    );

    // The same operation with its n-th call, and all after it, failing, for every n.
    let calls = plan.steps().len();
    for fails in 0..calls {
        let recorder = Recorder::failing_after(before.to_vec(), fails);
        plan.apply(&recorder).unwrap_err();
        allowed(&recorder.into_parts().0);
    }
}

#[test]
fn init_on_a_blank_device() {
    let before = blank();
    cut_off(
        "init on blank",
        &before,
        &init_plan(&before, &request(1, &["1M:a", "rest:b"])),
        true,
    );
}

/// Plans another preparation, without `--force`.
fn init_again(bytes: &Vec<u8>) -> Result<(), String> {
    let before = Before {
        device: bytes,
        own_lba_size: None,
        inspection: &inspect(bytes, None).unwrap(),
        force: false,
    };
    let plan = init::plan(&before, &geometry(), &request(2, &["rest:c"])).map_err(|error| error.to_string())?;
    plan.plan.check(&before).map_err(|error| error.to_string())?;
    Ok(())
}

/// An interrupted first preparation can be repeated without `--force`: the bytes that it has left are ours.
#[test]
fn init_again_after_an_interrupted_one() {
    let before = blank();
    let first = init_plan(&before, &request(1, &["1M:a", "rest:b"]));
    let recorder = Recorder::new(before.clone());
    first.apply(&recorder).unwrap();
    let (_, events) = recorder.into_parts();
    let (mut seen, mut unprepared) = (0, 0);
    let taken_up = |bytes: &[u8]| {
        seen += 1;
        // Each is a plan with libblkid on a copy of the device: a part of them will do.
        if seen % 16 != 0 {
            return;
        }
        let bytes = bytes.to_vec();
        let inspection = inspect(&bytes, None).unwrap();
        if inspection.state != State::Unprepared {
            return;
        }
        // Of the first page that is written at least one word must tell whose it is.
        let page = &bytes[1536 << 10..][..4096];
        let telling = [8, 56, 96, 176, 184].map(|word| &page[word..word + 8]);
        if telling.iter().all(|word| **word == [0; 8]) && page.iter().any(|byte| *byte != 0) {
            return;
        }
        unprepared += 1;
        if let Err(refused) = init_again(&bytes) {
            let written: Vec<_> = (0..SIZE / 8)
                .filter(|word| bytes[word * 8..word * 8 + 8] != [0; 8])
                .map(|word| format!("{:#x}", word * 8))
                .collect();
            panic!("{refused}; words at {written:?}");
        }
    };
    cut_off_points(&before, &events, SAMPLES, random(0xa9a1), taken_up);
    assert!(unprepared > 100, "{unprepared} of {seen}");
}

/// The rest of a device that was in use does not count as an interrupted preparation.
#[test]
fn what_has_only_lost_its_tables_is_not_prepared_again() {
    let mut bytes = prepared();
    bytes[..34 * 512].fill(0);
    bytes[SIZE - 33 * 512..].fill(0);
    let refused = init_again(&bytes).unwrap_err();
    assert!(refused.contains("super block of xen-pmem"), "{refused}");
    // As well if only Xen was there.
    bytes[8 << 20..].fill(0);
    assert!(init_again(&bytes).is_ok());
    bytes[(2 << 20) + 4096] = 1;
    let refused = init_again(&bytes).unwrap_err();
    assert!(refused.contains("super block of xen-pmem"), "{refused}");
}

#[test]
fn init_over_an_old_layout() {
    let before = prepared();
    cut_off(
        "init --force",
        &before,
        &init_plan(&before, &request(2, &["rest:c"])),
        false,
    );
}

#[test]
fn init_over_an_old_layout_of_which_only_the_backups_are_left() {
    let mut before = prepared();
    before[512..1024].fill(0);
    before[512 << 10..(512 << 10) + 4096].fill(0);
    cut_off(
        "init --force over backups",
        &before,
        &init_plan(&before, &request(2, &["rest:c"])),
        false,
    );
}

#[test]
fn init_over_a_plain_partition_table() {
    let prepared = prepared();
    let before = applied(&prepared, &remove_plan(&prepared));
    cut_off(
        "init --force over a plain GPT",
        &before,
        &init_plan(&before, &request(2, &["rest:c"])),
        true,
    );
}

#[test]
fn init_over_something_else() {
    let mut before = blank();
    before[..2 << 20].fill(0xa5);
    let plan = init_plan(&before, &request(1, &["rest:a"]));
    cut_off("init --force over something else", &before, &plan, true);
    // Nothing of it is left that would claim the start once the primary table is lost.
    let mut after = applied(&before, &plan);
    assert_eq!(inspect(&after, None).unwrap().state, State::Prepared);
    after[..8192].fill(0);
    assert_eq!(inspect(&after, None).unwrap().state, State::Degraded);
}

#[test]
fn init_over_an_old_layout_with_something_in_its_gap() {
    let mut before = prepared();
    before[300 << 10..400 << 10].fill(0xa5);
    before[1 << 20..(1 << 20) + 5000].fill(0xa5);
    assert_eq!(inspect(&before, None).unwrap().state, State::Prepared);
    let plan = init_plan(&before, &request(2, &["rest:c"]));
    cut_off("init --force over a filled gap", &before, &plan, false);
    let mut after = applied(&before, &plan);
    after[..8192].fill(0);
    assert_eq!(inspect(&after, None).unwrap().state, State::Degraded);
}

#[test]
fn removal() {
    let before = prepared();
    cut_off("remove", &before, &remove_plan(&before), true);
}

/// Returns a prepared device whose first partition is gone, so that there is room to grow.
fn with_room() -> Vec<u8> {
    let bytes = blank();
    let bytes = applied(&bytes, &init_plan(&bytes, &request(1, &["4M:a", "rest:b"])));
    let mut cursor = std::io::Cursor::new(bytes);
    let mut gpt = gptman::GPT::read_from(&mut cursor, 512).unwrap();
    gpt.remove(1).unwrap();
    gpt.write_into(&mut cursor).unwrap();
    let bytes = cursor.into_inner();
    assert_eq!(inspect(&bytes, None).unwrap().state, State::Prepared);
    bytes
}

fn resize_plan(bytes: &Vec<u8>, size: u64) -> Checked {
    checked(bytes, false, |before| {
        let now = UnixTime(1_767_225_700);
        resize::plan(before, &geometry(), Bytes(size), now).unwrap().plan
    })
}

#[test]
fn growing_and_shrinking() {
    let before = with_room();
    let grow = resize_plan(&before, 8 << 20);
    cut_off("resize, larger", &before, &grow, false);
    let before = applied(&before, &grow);
    let inspection = inspect(&before, None).unwrap();
    assert_eq!(inspection.state, State::Prepared);
    assert_eq!(inspection.reservation().unwrap().0.reserved.size(), Bytes(8 << 20));
    cut_off("resize, smaller", &before, &resize_plan(&before, 4 << 20), false);
}

#[test]
fn repairs() {
    type Damage = (&'static str, fn(&mut Vec<u8>));
    let damages: &[Damage] = &[
        ("primary copy wiped", |b| b[512 << 10..(512 << 10) + 4096].fill(0)),
        ("primary copy corrupt", |b| b[(512 << 10) + 100] ^= 1),
        ("backup copy corrupt", |b| b[(1536 << 10) + 100] ^= 1),
        ("primary GPT wiped", |b| b[..8192].fill(0)),
        ("protective MBR lost", |b| b[..512].fill(0)),
        ("backup GPT corrupt", |b| b[SIZE - 512 + 30] ^= 1),
        ("first half of everything", |b| {
            b[..8192].fill(0);
            b[(512 << 10) + 100] ^= 1;
        }),
    ];
    for (name, damage) in damages {
        let mut before = prepared();
        damage(&mut before);
        let plan = checked(&before, false, |before| repair::plan(before).unwrap());
        cut_off(&format!("repair, {name}"), &before, &plan, false);
        assert!(applied(&before, &plan) == prepared(), "{name}: repaired to the byte");
    }
}

#[test]
fn restoring() {
    let good = prepared();
    let backup = Backup::of_metadata(&good, "good", &inspect(&good, None).unwrap()).unwrap();
    for (name, before) in [
        ("over ruins", {
            let mut ruins = good.clone();
            ruins[..2 << 20].fill(0xa5);
            ruins[SIZE - 4096..].fill(0x5a);
            ruins
        }),
        (
            "over another layout",
            applied(&good, &init_plan(&good, &request(2, &["rest:c"]))),
        ),
    ] {
        let plan = checked(&before, true, |before| restore::plan(before, &backup).unwrap());
        cut_off(&format!("restore {name}"), &before, &plan, true);
        assert_eq!(
            shown(&inspect(&applied(&before, &plan), None).unwrap()),
            shown(&inspect(&good, None).unwrap())
        );
    }
    let unchanged = checked(&good, false, |before| restore::plan(before, &backup).unwrap());
    assert!(
        applied(&good, &unchanged) == good,
        "a backup of what is there changes nothing"
    );
}
