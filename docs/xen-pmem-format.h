/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The super block of xen-pmem on persistent memory. docs/format.md is the specification.
 *
 * All integers are little endian. One copy is one 4096-byte page; the fields below are its first bytes, the rest is zero in version 1.0.
 */
#ifndef XEN_PMEM_FORMAT_H
#define XEN_PMEM_FORMAT_H

#include <stdint.h>

#define XEN_PMEM_COPY_SIZE        4096u
#define XEN_PMEM_PRIMARY_OFFSET   0x80000u  /* 512 KiB from the start of the block device */
#define XEN_PMEM_BACKUP_OFFSET    0x180000u /* 1536 KiB */
#define XEN_PMEM_PRIMARY_SIGNATURE "XenPmemP"
#define XEN_PMEM_BACKUP_SIGNATURE  "XenPmemB"
#define XEN_PMEM_VERSION_MAJOR    1u
#define XEN_PMEM_VERSION_MINOR    0u
#define XEN_PMEM_HEADER_SIZE      208u
#define XEN_PMEM_SUPERPAGE        0x200000u /* 2 MiB */
#define XEN_PMEM_SEARCH_LIMIT     0x400000000ull /* 16 GiB from the first page of the gap */

struct xen_pmem_superblock {
    uint8_t  signature[8];         /*   0: XEN_PMEM_PRIMARY_SIGNATURE or XEN_PMEM_BACKUP_SIGNATURE */
    uint16_t version_major;        /*   8 */
    uint16_t version_minor;        /*  10 */
    uint32_t header_size;          /*  12: bytes of the page that carry meaning, at least 208 */
    uint32_t checksum;             /*  16: CRC-32C of the page, this field taken as zero */
    uint32_t copy;                 /*  20: 0 primary, 1 backup */
    uint64_t features_compatible;  /*  24 */
    uint64_t features_read_only;   /*  32 */
    uint64_t features_incompatible;/*  40 */
    uint64_t sequence;             /*  48: at least 1; the higher one is the newer */
    uint64_t own_offset;           /*  56: where this copy stands, bytes from the start of the device */
    uint8_t  uuid[16];             /*  64: the reservation, in the byte order of RFC 9562 */
    uint8_t  disk_guid[16];        /*  80: the GPT's disk GUID, in the GPT's byte order */
    uint64_t device_size;          /*  96: bytes */
    uint64_t reserved_base;        /* 104: bytes from the start of the device */
    uint64_t reserved_size;        /* 112: bytes, a multiple of 2 MiB */
    uint32_t page_size;            /* 120: what the size was planned with: bytes of a page frame, a power of two from 4096 on */
    uint32_t frame_table_entry;    /* 124: bytes of a frame table entry */
    uint32_t m2p_entry;            /* 128: bytes of an M2P entry */
    uint32_t compat_m2p_entry;     /* 132: bytes of a compat M2P entry, or 0 */
    uint64_t namespace_size;       /* 136: bytes of the namespace that the reservation serves */
    uint64_t device_in_namespace;  /* 144: where the device starts in the namespace, bytes */
    uint64_t address_hint;         /* 152: physical address of the device when written, 0 if unknown; never trusted */
    uint64_t created;              /* 160: seconds since 1970-01-01 UTC */
    uint64_t updated;              /* 168 */
    uint8_t  creator[32];          /* 176: UTF-8 without control characters, padded with NUL */
};                                 /* 208 */

#endif /* XEN_PMEM_FORMAT_H */
