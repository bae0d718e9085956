//! What guests with persistent memory need.

use super::{Grade, Step};
use std::collections::BTreeSet;
use xen_pmem_nvdimm::guest_claim::Claim;

/// The name of these steps.
const NAME: &str = "guests";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the hypervisor does for guests.
    pub hypervisor: Hypervisor,
    /// Whether `xl` is the one of the series; `None` if no `xl` can be started.
    pub xl: Option<bool>,
    /// Whether the kernel's device-mapper is there.
    pub device_mapper: bool,
    /// The claims that the kernel holds.
    pub claims: Vec<Claim>,
    /// The names of the domains, if XenStore has said.
    pub domains: Option<BTreeSet<String>>,
}

/// What a hypervisor does for guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// It does not know persistent memory, or does not answer.
    Stock,
    /// It takes reports, and gives guests nothing.
    ReportsOnly,
    /// It maps partitions into guests.
    Maps,
}

/// Returns whether guests can be given partitions, and whether claims are left over from guests that are gone.
pub fn steps(found: &Found) -> Vec<Step> {
    let note = |what: String, hint: &str| Step::new(NAME, Grade::Note, what).hint(hint);
    let mut steps = Vec::new();
    match (found.hypervisor, found.xl) {
        (Hypervisor::Maps, Some(true)) | (Hypervisor::Stock, _) => {}
        (Hypervisor::Maps, Some(false)) => steps.push(note(
            "xl does not know `pmem=`: it is not that of the patches".to_owned(),
            "install the package xen-utils-4.20-pmem, or the xl that `cargo xtask xen` builds",
        )),
        (Hypervisor::Maps, None) => steps.push(note(
            "xl cannot be started".to_owned(),
            "install Xen's tools (Debian: xen-utils-4.20, then xen-utils-4.20-pmem)",
        )),
        (Hypervisor::ReportsOnly, _) => steps.push(note(
            "the hypervisor takes reports, and gives guests no persistent memory".to_owned(),
            "boot a Xen with all patches of the series",
        )),
    }
    if !found.device_mapper {
        steps.push(note(
            "the device-mapper is not loaded: no partition can be claimed for a guest".to_owned(),
            "modprobe dm-mod; the package xen-utils-4.20-pmem loads it at boot",
        ));
    }
    if let Some(domains) = &found.domains {
        let left_over = found.claims.iter().filter(|claim| !domains.contains(claim.domain()));
        steps.extend(left_over.map(|claim| {
            note(
                format!("{claim} is left over: there is no domain {}", claim.domain()),
                "if the guest is not about to be created, `xen-pmem-report guest release --gone` releases it",
            )
        }));
    }
    if steps.is_empty() {
        let way = match found.hypervisor {
            Hypervisor::Maps => "`pmem=` in a guest's configuration gives it partitions",
            _ => "`xen-pmem-report guest claim` gives partitions to PVH guests",
        };
        steps.push(Step::new(NAME, Grade::Good, way));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn all_is_well() -> Found {
        Found {
            hypervisor: Hypervisor::Maps,
            xl: Some(true),
            device_mapper: true,
            claims: vec![Claim::new(Uuid::from_u128(7), 1, "web").unwrap()],
            domains: Some(BTreeSet::from(["web".to_owned()])),
        }
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let well = all_is_well;
        for (found, expected) in [
            (well(), "`pmem=` in"),
            (
                Found {
                    hypervisor: Hypervisor::Stock,
                    xl: None,
                    ..well()
                },
                "guest claim",
            ),
            (
                Found {
                    xl: Some(false),
                    ..well()
                },
                "does not know",
            ),
            (Found { xl: None, ..well() }, "cannot be started"),
            (
                Found {
                    hypervisor: Hypervisor::ReportsOnly,
                    ..well()
                },
                "gives guests no",
            ),
            (
                Found {
                    device_mapper: false,
                    ..well()
                },
                "device-mapper",
            ),
            (
                Found {
                    domains: Some(BTreeSet::new()),
                    ..well()
                },
                "left over",
            ),
            (
                Found {
                    domains: None,
                    ..well()
                },
                "`pmem=` in",
            ),
        ] {
            let steps = steps(&found);
            let [step] = steps.as_slice() else { panic!("{steps:?}") };
            assert!(step.found.contains(expected), "{step:?}");
            assert_eq!(step.hint.is_some(), step.verdict == Grade::Note, "{step:?}");
        }
    }
}
