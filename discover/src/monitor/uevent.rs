//! The kernel's messages about devices.
//!
//! Source: Linux `lib/kobject_uevent.c`: `action@devpath`, a NUL, then `KEY=value` strings, each with a NUL behind it.

use super::Hint;

/// The longest message: `UEVENT_BUFFER_SIZE`, and the first string.
pub const LONGEST: usize = 8192;

/// Returns the hint in a message; `None` if it is about something else, or is not a uevent.
pub fn hint(message: &[u8]) -> Option<Hint> {
    let mut strings = message.split(|byte| *byte == 0).map(std::str::from_utf8);
    let (action, path) = strings.next()?.ok()?.split_once('@')?;
    let mut subsystem = None;
    let mut kind = None;
    for string in strings {
        match string.ok().and_then(|string| string.split_once('=')) {
            Some(("SUBSYSTEM", value)) => subsystem = Some(value),
            Some(("DEVTYPE", value)) => kind = Some(value),
            _ => {}
        }
    }
    let name = path.rsplit('/').next()?;
    match subsystem? {
        "block" if !name.starts_with("pmem") => None,
        "block" if action == "remove" && kind == Some("disk") => Some(Hint::Removed(name.to_owned())),
        "block" | "nd" | "dax" => Some(Hint::Look),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(action: &str, path: &str, subsystem: &str, kind: &str) -> Vec<u8> {
        format!(
            "{action}@{path}\0ACTION={action}\0DEVPATH={path}\0SUBSYSTEM={subsystem}\0DEVTYPE={kind}\0SEQNUM=1234\0"
        )
        .into_bytes()
    }

    #[test]
    fn what_matters_is_told_from_the_rest() {
        const DISK: &str = "/devices/LNXSYSTM:00/ACPI0012:00/ndbus0/region0/namespace0.0/block/pmem0";
        let removed = Some(Hint::Removed("pmem0".to_owned()));
        let partition = format!("{DISK}/pmem0p1");
        for (action, path, subsystem, kind, expected) in [
            ("add", DISK, "block", "disk", Some(Hint::Look)),
            ("change", DISK, "block", "disk", Some(Hint::Look)),
            ("remove", DISK, "block", "disk", removed),
            ("remove", &partition, "block", "partition", Some(Hint::Look)),
            ("add", "/devices/virtual/block/loop0", "block", "disk", None),
            (
                "bind",
                "/devices/ndbus0/region0/namespace0.0",
                "nd",
                "nd_namespace_io",
                Some(Hint::Look),
            ),
            (
                "add",
                "/devices/ndbus0/region0/dax0.0/dax0.0",
                "dax",
                "",
                Some(Hint::Look),
            ),
            ("add", "/devices/virtual/bdi/259:0", "bdi", "", None),
        ] {
            assert_eq!(
                hint(&message(action, path, subsystem, kind)),
                expected,
                "{action} {path}"
            );
        }
        for nothing in [
            &b""[..],
            b"\0",
            b"add",
            b"add@/x\0",
            b"libudev\0\xfe\xed\xca\xfe",
            b"\xff@\xff\0SUBSYSTEM=nd\0",
        ] {
            assert_eq!(hint(nothing), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = hint(&bytes);
        }
    }
}
