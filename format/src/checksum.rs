//! CRC-32C (Castagnoli), the checksum of a super block copy.

/// Returns the CRC-32C of `parts`, as if they were one run of bytes.
#[cfg(feature = "std")]
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| ::crc32c::crc32c_append(crc, part))
}

/// Returns the CRC-32C of `parts`, as if they were one run of bytes. Uses a table: without `std` the processor's own instruction cannot be
/// detected.
#[cfg(any(test, not(feature = "std")))]
#[cfg_attr(all(test, feature = "std"), allow(dead_code))]
pub(crate) fn crc32c_portable(parts: &[&[u8]]) -> u32 {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut digest = CRC.digest();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

#[cfg(not(feature = "std"))]
pub(crate) use crc32c_portable as crc32c;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_value_of_the_catalogue_of_crcs() {
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c_portable(&[b"123", b"456789"]), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn both_forms_agree(head: Vec<u8>, tail: Vec<u8>) {
            prop_assert_eq!(crc32c(&[&head, &tail]), crc32c_portable(&[&head, &tail]));
        }
    }
}
