//! What a plan is made of: writes, and flushes between them.

use crate::device::Device;
use std::io;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset};

/// The bytes of a signature: as much as persistent memory writes at once.
pub const SIGNATURE_SIZE: usize = 8;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write bytes.
    Write {
        /// Where.
        offset: DeviceOffset,
        /// What.
        bytes: Vec<u8>,
        /// What it is, for people.
        what: String,
    },
    /// Make durable what was written before anything else is.
    Flush,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}")]
pub struct Failed {
    /// Which one, with its offset.
    pub what: String,
    /// What the operating system said.
    #[source]
    pub error: io::Error,
}

/// Does the steps, in order; stops at the first that fails. Those before it are done, those after it are not.
pub(crate) fn apply<D: Device + ?Sized>(device: &D, steps: &[Step]) -> Result<(), Failed> {
    let mut last = "flushing".to_owned();
    for step in steps {
        match step {
            Step::Write { offset, bytes, what } => {
                tracing::debug!(%offset, size = bytes.len(), "writing {what}");
                let said = || format!("writing {what} at offset {offset}");
                device
                    .write_all_at(*offset, bytes)
                    .map_err(|error| Failed { what: said(), error })?;
                last = format!("making {what} at offset {offset} durable");
            }
            Step::Flush => device.flush().map_err(|error| Failed {
                what: last.clone(),
                error,
            })?,
        }
    }
    Ok(())
}

/// Returns the steps that replace a structure whose first eight bytes, at `at` within `bytes`, are its signature, so that it is absent or
/// whole at every moment: the old signature away, the rest, the new signature.
pub fn replace(offset: DeviceOffset, bytes: &[u8], at: usize, there: bool, what: &str) -> Vec<Step> {
    let signature_end = at.saturating_add(SIGNATURE_SIZE);
    let (Some(signature), Some(signature_at)) = (bytes.get(at..signature_end), offset_of(offset, at)) else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    if there {
        steps.extend(forget(signature_at, what));
    }
    let mut body = bytes.to_vec();
    if let Some(place) = body.get_mut(at..signature_end) {
        place.fill(0);
    }
    steps.push(Step::Write {
        offset,
        bytes: body,
        what: format!("{what}, without its signature"),
    });
    steps.push(Step::Flush);
    steps.push(Step::Write {
        offset: signature_at,
        bytes: signature.to_vec(),
        what: format!("{what}: its signature"),
    });
    steps.push(Step::Flush);
    steps
}

/// Returns the steps that make a structure absent by zeroing the eight bytes of its signature.
pub fn forget(signature_at: DeviceOffset, what: &str) -> [Step; 2] {
    let bytes = vec![0; SIGNATURE_SIZE];
    [
        Step::Write {
            offset: signature_at,
            bytes,
            what: format!("zeros over the signature of the {what}"),
        },
        Step::Flush,
    ]
}

fn offset_of(offset: DeviceOffset, at: usize) -> Option<DeviceOffset> {
    offset.checked_add(Bytes(u64::try_from(at).ok()?))
}
