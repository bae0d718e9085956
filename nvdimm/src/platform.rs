//! What a platform promises of a region, and what has happened to the NVDIMMs behind it.

use crate::sysfs::{Directory, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What survives a power failure without a flush by software.
///
/// Source: Linux `drivers/nvdimm/region_devs.c` (`persistence_domain_show`); ACPI 6.5, table 5.141 (platform capabilities structure).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersistenceDomain {
    /// What is in the processors' caches.
    CpuCache,
    /// What has left the caches and is on its way in the memory controller.
    MemoryController,
}

impl PersistenceDomain {
    /// Returns the word that documents and XenStore use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CpuCache => "cpu-cache",
            Self::MemoryController => "memory-controller",
        }
    }
}

/// An event of an NVDIMM that a user of its content should know.
///
/// Source: Linux `drivers/acpi/nfit/core.c` (`flags_show`); ACPI 6.5, table 5.135 (NVDIMM state flags).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It could not save its content when power failed.
    SaveFailed,
    /// It could not restore its content at boot.
    RestoreFailed,
    /// The platform could not flush what was on its way when power failed.
    FlushFailed,
    /// It reported an event of its health before boot.
    SmartEvent,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::SaveFailed,
        Self::RestoreFailed,
        Self::FlushFailed,
        Self::SmartEvent,
    ];

    /// Returns the word that documents and XenStore use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SaveFailed => "save-failed",
            Self::RestoreFailed => "restore-failed",
            Self::FlushFailed => "flush-failed",
            Self::SmartEvent => "smart-event",
        }
    }

    /// Returns the word that the kernel uses.
    const fn flag(self) -> &'static str {
        match self {
            Self::SaveFailed => "save_fail",
            Self::RestoreFailed => "restore_fail",
            Self::FlushFailed => "flush_fail",
            Self::SmartEvent => "smart_event",
        }
    }
}

/// Both, of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// The persistence domain, if the platform names one.
    pub persistence_domain: Option<PersistenceDomain>,
    /// What has happened to any of its NVDIMMs, in order.
    pub health: Vec<Health>,
}

impl Platform {
    /// Returns what sysfs says of the region with this folder.
    ///
    /// # Errors
    ///
    /// If an attribute that is there cannot be read.
    pub fn of(region: &Directory) -> Result<Self, Error> {
        let persistence_domain = match region.text("persistence_domain")?.as_deref() {
            Some("cpu_cache") => Some(PersistenceDomain::CpuCache),
            Some("memory_controller") => Some(PersistenceDomain::MemoryController),
            _ => None,
        };
        let mut health = BTreeSet::new();
        let bus = region.parent();
        for index in 0..region.number("mappings")?.unwrap_or_default() {
            // nmem0,0,536870912,0: the NVDIMM, then where on it.
            let mapping = region.text(&format!("mapping{index}"))?.unwrap_or_default();
            let name = mapping.split(',').next().unwrap_or_default();
            let nvdimm = bus.as_ref().map(|bus| bus.child(name));
            let flags = match nvdimm.filter(|_| name.starts_with("nmem")) {
                Some(nvdimm) => nvdimm.text("nfit/flags")?.unwrap_or_default(),
                None => continue,
            };
            let is_set = |health: &Health| flags.split_whitespace().any(|flag| flag == health.flag());
            health.extend(Health::ALL.into_iter().filter(is_set));
        }
        Ok(Self {
            persistence_domain,
            health: health.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::SysfsRoot;
    use std::fs;
    use std::path::Path;

    fn write(folder: &Path, attribute: &str, text: &str) {
        let path = folder.join(attribute);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    #[test]
    fn the_health_of_all_nvdimms_of_a_region_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (bus, region) = (folder.path().join("ndbus0"), folder.path().join("ndbus0/region0"));
        write(&region, "mappings", "2");
        write(&region, "mapping0", "nmem0,0,536870912,0");
        write(&region, "mapping1", "nmem1,0,536870912,1");
        write(&bus, "nmem0/nfit/flags", "flush_fail not_armed");
        write(&bus, "nmem1/nfit/flags", "smart_event save_fail flush_fail ");
        write(&bus, "nmem2/nfit/flags", "restore_fail");
        let directory = SysfsRoot::new(folder.path()).directory("ndbus0/region0");
        let found = Platform::of(&directory).unwrap();
        assert_eq!(
            found.health,
            [Health::SaveFailed, Health::FlushFailed, Health::SmartEvent]
        );
        assert_eq!(found.persistence_domain, None);
    }

    #[test]
    fn persistence_domains_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SysfsRoot::new(folder.path()).directory("");
        assert_eq!(Platform::of(&directory).unwrap(), Platform::default());
        for (text, expected) in [
            ("cpu_cache", Some(PersistenceDomain::CpuCache)),
            ("memory_controller", Some(PersistenceDomain::MemoryController)),
            ("", None),
            ("unknown", None),
        ] {
            write(folder.path(), "persistence_domain", text);
            assert_eq!(Platform::of(&directory).unwrap().persistence_domain, expected, "{text}");
        }
    }

    #[test]
    fn words_are_those_of_documents() {
        for health in Health::ALL {
            assert_eq!(serde_json::to_value(health).unwrap(), health.as_str());
        }
        for domain in [PersistenceDomain::CpuCache, PersistenceDomain::MemoryController] {
            assert_eq!(serde_json::to_value(domain).unwrap(), domain.as_str());
        }
    }
}
