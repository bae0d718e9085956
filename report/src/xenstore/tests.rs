use super::*;
use crate::report::tests::{device, span};
use std::cell::RefCell;
use xen_pmem_discover::document::{Device, Partition};
use xen_pmem_nvdimm::platform::{Health, PersistenceDomain};

/// A store in memory that keeps the order of changes, and can fail after a number of them.
#[derive(Default)]
struct Memory {
    nodes: RefCell<BTreeMap<String, String>>,
    log: RefCell<Vec<String>>,
    changes_left: RefCell<Option<usize>>,
}

impl Memory {
    fn change(&self, what: String) -> io::Result<()> {
        if let Some(left) = self.changes_left.borrow_mut().as_mut() {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("connection lost"))?;
        }
        self.log.borrow_mut().push(what);
        Ok(())
    }
}

impl Xs for &Memory {
    fn directory(&self, path: &str) -> io::Result<Vec<Box<str>>> {
        let nodes = self.nodes.borrow();
        if !nodes.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let prefix = format!("{path}/");
        let names = nodes
            .keys()
            .filter_map(|node| node.strip_prefix(&prefix))
            .filter(|name| !name.contains('/'));
        Ok(names.map(Into::into).collect())
    }

    fn read(&self, path: &str) -> io::Result<Box<str>> {
        self.nodes
            .borrow()
            .get(path)
            .map(|value| value.as_str().into())
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn write(&self, path: &str, data: &str) -> io::Result<()> {
        self.change(format!("write {path}={data}"))?;
        let mut nodes = self.nodes.borrow_mut();
        for (at, _) in path.match_indices('/').skip(1) {
            nodes.entry(path[..at].to_owned()).or_default();
        }
        nodes.insert(path.to_owned(), data.to_owned());
        Ok(())
    }

    fn rm(&self, path: &str) -> io::Result<()> {
        self.change(format!("rm {path}"))?;
        self.nodes
            .borrow_mut()
            .retain(|node, _| node != path && !node.starts_with(&format!("{path}/")));
        Ok(())
    }
}

fn report() -> Report {
    Report::of(&device()).unwrap()
}

fn publish(memory: &Memory, report: &Report) -> Outcome {
    XenStore::new(memory).publish(report, None).unwrap().outcome
}

const DIRECTORY: &str = "/tool/xen-pmem/00000000-0000-0000-0000-000000001111";

#[test]
fn exactly_the_documented_nodes_are_written_and_state_is_last() {
    let memory = Memory::default();
    assert_eq!(publish(&memory, &report()), Outcome::Published);
    let base: u64 = 4 << 30;
    let mib: u64 = 1 << 20;
    let expected = [
        ("data/1/base", (base + 10 * mib).to_string()),
        ("data/1/size", (100 * mib).to_string()),
        ("data/3/base", (base + 110 * mib).to_string()),
        ("data/3/size", "4096".to_owned()),
        ("device", "/dev/pmem0".to_owned()),
        ("numa-node", "0".to_owned()),
        ("range-base", base.to_string()),
        ("range-size", (512 * mib).to_string()),
        ("reserved-base", (base + 4 * mib).to_string()),
        ("reserved-size", (6 * mib).to_string()),
        ("schema", "1".to_owned()),
        ("state", "ready".to_owned()),
    ];
    let published = XenStore::new(&memory).published().unwrap();
    assert_eq!(published.len(), 1);
    assert!(published[0].is_ready());
    let found: Vec<_> = published[0]
        .nodes
        .iter()
        .map(|(path, value)| (path.as_str(), value.clone()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(
        memory.log.borrow().last().unwrap(),
        &format!("write {DIRECTORY}/state=ready")
    );
}

#[test]
fn what_the_platform_says_is_published_and_not_missed_in_older_reports() {
    let memory = Memory::default();
    let quiet = Device {
        numa_node: None,
        ..device()
    };
    XenStore::new(&memory)
        .publish(&Report::of(&quiet).unwrap(), None)
        .unwrap();
    let before = XenStore::new(&memory).published().unwrap();
    let talkative = Report::of(&Device {
        persistence_domain: Some(PersistenceDomain::MemoryController),
        health: vec![Health::SaveFailed, Health::SmartEvent],
        ..device()
    })
    .unwrap();
    assert_eq!(before[0].difference(&talkative), None);
    assert_eq!(publish(&memory, &talkative), Outcome::Published);
    let after = XenStore::new(&memory).published().unwrap();
    for (name, value) in [
        ("numa-node", "0"),
        ("persistence-domain", "memory-controller"),
        ("health", "save-failed smart-event"),
    ] {
        assert_eq!(after[0].nodes.get(name).map(String::as_str), Some(value));
        assert_eq!(before[0].nodes.get(name), None);
    }
    // A node that is no longer true is a difference.
    assert!(after[0].difference(&Report::of(&quiet).unwrap()).is_some());
}

#[test]
fn a_second_publication_changes_nothing() {
    let memory = Memory::default();
    XenStore::new(&memory).publish(&report(), None).unwrap();
    memory.log.borrow_mut().clear();
    assert_eq!(publish(&memory, &report()), Outcome::Unchanged);
    assert_eq!(*memory.log.borrow(), Vec::<String>::new());
}

#[test]
fn a_changed_report_is_invalid_while_it_changes() {
    let memory = Memory::default();
    XenStore::new(&memory).publish(&report(), None).unwrap();
    memory.log.borrow_mut().clear();
    let mut repartitioned = device();
    repartitioned.partitions = vec![Partition {
        number: 3,
        range: span((4 << 30) + (20 << 20), 4096),
    }];
    let repartitioned = Report::of(&repartitioned).unwrap();
    assert_eq!(publish(&memory, &repartitioned), Outcome::Published);
    let log = memory.log.borrow();
    assert_eq!(log.first().unwrap(), &format!("rm {DIRECTORY}/state"));
    assert_eq!(log.last().unwrap(), &format!("write {DIRECTORY}/state=ready"));
    assert!(
        memory.nodes.borrow().keys().all(|node| !node.contains("data/1")),
        "no stale keys"
    );
}

#[test]
fn an_interrupted_publication_is_never_ready_and_the_next_one_completes_it() {
    let changes = {
        let memory = Memory::default();
        XenStore::new(&memory).publish(&report(), None).unwrap();
        memory.log.borrow().len()
    };
    for cut in 0..changes {
        let memory = Memory::default();
        *memory.changes_left.borrow_mut() = Some(cut);
        XenStore::new(&memory).publish(&report(), None).unwrap_err();
        assert!(
            XenStore::new(&memory)
                .published()
                .unwrap()
                .iter()
                .all(|published| !published.is_ready()),
            "cut {cut}"
        );
        *memory.changes_left.borrow_mut() = None;
        assert_eq!(publish(&memory, &report()), Outcome::Published);
        assert!(XenStore::new(&memory).published().unwrap()[0].is_ready());
    }
}

#[test]
fn withdrawing_takes_state_first_and_leaves_nothing() {
    let memory = Memory::default();
    let mut store = XenStore::new(&memory);
    store.publish(&report(), None).unwrap();
    memory.log.borrow_mut().clear();
    assert!(store.remove(&report().uuid().to_string()).unwrap());
    assert_eq!(memory.log.borrow()[0], format!("rm {DIRECTORY}/state"));
    assert!(memory.nodes.borrow().keys().all(|node| !node.contains("xen-pmem")));
    assert!(
        !store.remove(&report().uuid().to_string()).unwrap(),
        "there is nothing left to withdraw"
    );
}

#[test]
fn a_device_prepared_anew_supersedes_what_it_was_published_as() {
    let memory = Memory::default();
    let mut store = XenStore::new(&memory);
    store.publish(&report(), None).unwrap();
    let anew = Report::of(&xen_pmem_discover::document::Device {
        uuid: Some(Uuid::from_u128(2)),
        ..device()
    })
    .unwrap();
    store.publish(&anew, None).unwrap();
    let left: Vec<_> = store
        .published()
        .unwrap()
        .into_iter()
        .map(|published| published.name)
        .collect();
    assert_eq!(left, [Uuid::from_u128(2).to_string()]);
}

#[test]
fn other_reports_stay() {
    let memory = Memory::default();
    let mut store = XenStore::new(&memory);
    let other = Report::of(&xen_pmem_discover::document::Device {
        uuid: Some(Uuid::from_u128(2)),
        region: None,
        namespace: Some(span(8 << 30, 512 << 20)),
        device_range: Some(span(8 << 30, 512 << 20)),
        reserved: Some(span((8 << 30) + (2 << 20), 6 << 20)),
        partitions: Vec::new(),
        ..device()
    })
    .unwrap();
    store.publish(&report(), None).unwrap();
    store.publish(&other, None).unwrap();
    store.remove(&report().uuid().to_string()).unwrap();
    let left: Vec<_> = store
        .published()
        .unwrap()
        .into_iter()
        .map(|published| published.name)
        .collect();
    assert_eq!(left, [Uuid::from_u128(2).to_string()]);
}

#[test]
fn what_the_hypervisor_says_is_published_and_stays_known() {
    let memory = Memory::default();
    let mut store = XenStore::new(&memory);
    let used = Bytes(6 << 20);
    let verdict = |store: &XenStore<&Memory>| store.published().unwrap()[0].verdict();
    store.publish(&report(), Some(Registration::Unsupported)).unwrap();
    assert_eq!(verdict(&store), Some(Registration::Unsupported));
    let registered = Registration::Registered { used };
    let receipt = store.publish(&report(), Some(registered)).unwrap();
    assert_eq!(receipt.outcome, Outcome::Published);
    assert_eq!(memory.nodes.borrow()[&format!("{DIRECTORY}/hypervisor")], "registered");
    assert_eq!(memory.nodes.borrow()[&format!("{DIRECTORY}/frames-used")], "1536");
    assert_eq!(store.published().unwrap()[0].difference(&report()), None);
    for again in [Some(registered), None] {
        let receipt = store.publish(&report(), again).unwrap();
        assert_eq!(receipt.outcome, Outcome::Unchanged, "{again:?}");
    }
    let elsewhere = Report::of(&xen_pmem_discover::document::Device {
        reserved: Some(span((4 << 30) + (4 << 20), 4 << 20)),
        ..device()
    })
    .unwrap();
    store.publish(&elsewhere, None).unwrap();
    assert_eq!(verdict(&store), None, "nobody has asked about this area");
}

#[test]
fn what_an_interrupted_run_left_is_removed_whatever_it_was_of() {
    let other = Uuid::from_u128(2);
    for left in [
        format!("/tool/xen-pmem/{other}/schema"),
        format!("/tool/xen-pmem/{other}/device"),
    ] {
        let memory = Memory::default();
        (&memory).write(&left, "1").unwrap();
        (&memory).write("/tool/xen-pmem/somebody-elses/node", "1").unwrap();
        publish(&memory, &report());
        let names: Vec<_> = XenStore::new(&memory)
            .published()
            .unwrap()
            .into_iter()
            .map(|published| published.name)
            .collect();
        assert_eq!(
            names,
            [report().uuid().to_string(), "somebody-elses".to_owned()],
            "{left}"
        );
    }
}
