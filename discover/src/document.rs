//! The scan's result as data: what `scan --json` prints and what the reporter reads. Schema 1; a later schema has another number,
//! a later addition another field.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use xen_pmem_nvdimm::mode;
use xen_pmem_nvdimm::platform::{Health, PersistenceDomain};

/// The schema's number.
pub const SCHEMA: u32 = 1;

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The devices, in the order of their physical addresses.
    pub devices: Vec<Device>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The device's node, or the image's path.
    pub device: String,
    /// What it is.
    pub state: State,
    /// The reservation's UUID.
    pub uuid: Option<Uuid>,
    /// How libnvdimm presents the namespace.
    pub mode: Mode,
    /// The libnvdimm region that the namespace lies in.
    pub region: Option<Span>,
    /// The namespace: the range that the reservation serves and that a report names.
    pub namespace: Option<Span>,
    /// The bytes of the block device.
    pub device_range: Option<Span>,
    /// The NUMA node, if there is one.
    pub numa_node: Option<i32>,
    /// What survives a power failure without a flush, if the platform says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_domain: Option<PersistenceDomain>,
    /// What has happened to the NVDIMMs; absent if nothing has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<Health>,
    /// The area reserved for Xen.
    pub reserved: Option<Span>,
    /// The partitions, in the order of their addresses.
    pub partitions: Vec<Partition>,
    /// The reason for the state; absent if the device is sound.
    pub reason: Option<String>,
}

/// What a device is, as far as Xen is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is a reservation and all that protects it is as it should be.
    Prepared,
    /// There is a reservation, and something that protects it needs repair.
    Degraded,
    /// There is a reservation that cannot be trusted.
    Damaged,
    /// There is no reservation.
    Unprepared,
    /// A device of this mode cannot hold one.
    Unsupported,
}

impl State {
    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Degraded => "degraded",
            Self::Damaged => "damaged",
            Self::Unprepared => "unprepared",
            Self::Unsupported => "unsupported",
        }
    }

    /// Returns whether there is a reservation to report.
    pub const fn is_reportable(self) -> bool {
        matches!(self, Self::Prepared | Self::Degraded)
    }
}

/// How libnvdimm presents a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The namespace itself is the block device.
    Raw,
    /// A block device with DAX behind an info block and a memory map.
    Fsdax,
    /// A character device; no block device.
    Devdax,
    /// A block device with atomic sectors (BTT): blocks have no fixed address.
    Sector,
    /// An image file.
    Image,
}

impl From<mode::Mode> for Mode {
    fn from(mode: mode::Mode) -> Self {
        match mode {
            mode::Mode::Raw => Self::Raw,
            mode::Mode::Fsdax => Self::Fsdax,
            mode::Mode::Devdax => Self::Devdax,
            mode::Mode::Sector => Self::Sector,
        }
    }
}

/// One partition's physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number in the partition table.
    pub number: u32,
    /// Its range.
    #[serde(flatten)]
    pub range: Span,
}

/// A physical range as `{"base", "size"}`, in bytes. One that does not fit in 64 bits is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BaseAndSize", into = "BaseAndSize")]
pub struct Span(pub PhysRange);

#[derive(Serialize, Deserialize)]
struct BaseAndSize {
    base: u64,
    size: u64,
}

impl From<Span> for BaseAndSize {
    fn from(Span(range): Span) -> Self {
        Self {
            base: range.base().0,
            size: range.size().0,
        }
    }
}

impl TryFrom<BaseAndSize> for Span {
    type Error = &'static str;

    fn try_from(raw: BaseAndSize) -> Result<Self, Self::Error> {
        PhysRange::new(PhysAddr(raw.base), Bytes(raw.size))
            .map(Span)
            .ok_or("a range that ends beyond 64 bits")
    }
}

/// Why a text is not a scan document.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not JSON, or not of this shape.
    #[error("not a scan document: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Of another schema.
    #[error("a scan document of schema {0}; this program reads schema {SCHEMA}")]
    Schema(u32),
}

impl Scan {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// If `text` is not JSON of this shape, or of another schema.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        let scan: Self = serde_json::from_str(text)?;
        if scan.schema == SCHEMA {
            Ok(scan)
        } else {
            Err(ReadError::Schema(scan.schema))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"schema":1,"devices":[{"device":"/dev/pmem0","state":"prepared","uuid":"00112233-4455-4677-8899-aabbccddeeff",
        "mode":"raw","region":{"base":4294967296,"size":536870912},"namespace":{"base":4294967296,"size":536870912},
        "device_range":{"base":4294967296,"size":536870912},"numa_node":0,"reserved":{"base":4297064448,"size":6291456},
        "partitions":[{"number":1,"base":4303355904,"size":4096}],"reason":null,"added_later":[]}]}"#;

    #[test]
    fn a_document_is_read_and_written_back() {
        let scan = Scan::from_json(DOCUMENT).unwrap();
        let again = serde_json::to_value(&scan).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        expected["devices"][0].as_object_mut().unwrap().remove("added_later");
        assert_eq!(again, expected);
    }

    #[test]
    fn what_is_not_this_schema_is_refused() {
        for (from, to) in [
            ("\"schema\":1", "\"schema\":2"),
            ("\"raw\"", "\"cooked\""),
            ("\"size\":536870912", "\"size\":18446744073709551615"),
            ("\"base\":4294967296", "\"base\":-1"),
        ] {
            assert!(Scan::from_json(&DOCUMENT.replace(from, to)).is_err(), "{to}");
        }
    }
}
