//! What differs between kernels in the arguments of the functions and tracepoints that the programs attach to, as their BTF has it.

use super::Unavailable;
use libbpf_rs::btf::types::{Func, FuncProto, Ptr, Typedef};
use libbpf_rs::btf::{Btf, BtfType};

/// The shapes that the running kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shapes {
    /// The functions about partitions receive a `struct block_device` (before Linux 5.15). Later ones receive its `struct gendisk`.
    pub(super) partitions_by_block_device: bool,
    /// The tracepoint `block_bio_queue` names the request queue before the bio: before Linux 5.11.
    pub(super) bio_with_queue: bool,
}

/// A function about partitions; all of them changed at once.
const PARTITIONED: &str = "bdev_disk_changed";
/// The type of the function that a tracepoint calls.
const BIO_QUEUED: &str = "btf_trace_block_bio_queue";
/// The arguments of that function where the queue is one of them: the tracepoint's own data, the queue, the bio.
const WITH_QUEUE: usize = 3;

impl Shapes {
    /// Reads the shapes from the running kernel's BTF.
    ///
    /// # Errors
    ///
    /// If the BTF cannot be read, or lacks one of the two: such a kernel is older than Linux 5.10 or not known yet.
    pub(super) fn of_this_kernel() -> Result<Self, Unavailable> {
        let btf = Btf::from_vmlinux()?;
        let subject = subject(&btf).ok_or(Unavailable::Unknown(PARTITIONED))?;
        let arguments = arguments(&btf).ok_or(Unavailable::Unknown(BIO_QUEUED))?;
        Ok(Self {
            partitions_by_block_device: subject == "block_device",
            bio_with_queue: arguments == WITH_QUEUE,
        })
    }
}

/// Returns the name of the structure that [`PARTITIONED`] is about.
fn subject(btf: &Btf<'_>) -> Option<String> {
    let function: Func<'_> = btf.type_by_name(PARTITIONED)?;
    let prototype = FuncProto::try_from(function.next_type()?).ok()?;
    let first = prototype.get(0)?.ty;
    let pointer: Ptr<'_> = btf.type_by_id(first)?;
    let structure: BtfType<'_> = pointer.next_type()?.skip_mods_and_typedefs();
    Some(structure.name()?.to_str()?.to_owned())
}

/// Returns how many arguments the function has that the tracepoint [`BIO_QUEUED`] calls.
fn arguments(btf: &Btf<'_>) -> Option<usize> {
    let named: Typedef<'_> = btf.type_by_name(BIO_QUEUED)?;
    let pointer = Ptr::try_from(named.next_type()?).ok()?;
    let prototype = FuncProto::try_from(pointer.next_type()?).ok()?;
    Some(prototype.len())
}
