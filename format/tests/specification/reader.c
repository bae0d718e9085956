/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A second reader of the format, written from docs/format.md alone, to keep the specification honest.
 *
 *   reader page OFFSET < PAGE     says "valid", "missing" or "corrupt" of one page found at OFFSET
 *   reader offsets                prints each field's name, offset and size
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xen-pmem-format.h"

static uint32_t le32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }
static uint64_t le64(const uint8_t *p) { return le32(p) | (uint64_t)le32(p + 4) << 32; }
static uint32_t le16(const uint8_t *p) { return p[0] | p[1] << 8; }

#define F(page, field) ((page) + offsetof(struct xen_pmem_superblock, field))
#define OFFSETS(X)                                                                                                  \
    X(signature) X(version_major) X(version_minor) X(header_size) X(checksum) X(copy) X(features_compatible)        \
    X(features_read_only) X(features_incompatible) X(sequence) X(own_offset) X(uuid) X(disk_guid) X(device_size)    \
    X(reserved_base) X(reserved_size) X(page_size) X(frame_table_entry) X(m2p_entry) X(compat_m2p_entry)            \
    X(namespace_size) X(device_in_namespace) X(address_hint) X(created) X(updated) X(creator)

static uint32_t crc32c(const uint8_t *bytes, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static int all_zero(const uint8_t *bytes, size_t size)
{
    while (size)
        if (bytes[--size])
            return 0;
    return 1;
}

/* UTF-8 without control characters (U+0000-001F, U+007F-009F), then NULs only. */
static int text(const uint8_t *s, size_t size)
{
    size_t i = 0;
    while (i < size && s[i]) {
        uint32_t c = s[i];
        int more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : -1;
        static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
        if (more < 0 || i + more >= size)
            return 0;
        c &= more ? 0x3f >> more : 0x7f;
        for (int k = 1; k <= more; k++) {
            if (s[i + k] >> 6 != 2)
                return 0;
            c = c << 6 | (s[i + k] & 0x3f);
        }
        if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || c < 0x20 || (c >= 0x7f && c < 0xa0))
            return 0;
        i += more + 1;
    }
    return all_zero(s + i, size - i);
}

static int overlap(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end) { return a < b_end && b < a_end; }

static const char *judge(uint8_t *page, uint64_t found)
{
    uint32_t copy, sum = le32(F(page, checksum));
    uint64_t base, size, device;

    if (!memcmp(page, XEN_PMEM_PRIMARY_SIGNATURE, 8))
        copy = 0;
    else if (!memcmp(page, XEN_PMEM_BACKUP_SIGNATURE, 8))
        copy = 1;
    else
        return "missing";
    memset(F(page, checksum), 0, 4);
    if (crc32c(page, XEN_PMEM_COPY_SIZE) != sum)
        return "corrupt";
    if (le16(F(page, version_major)) != XEN_PMEM_VERSION_MAJOR || le64(F(page, features_incompatible)) ||
        le32(F(page, header_size)) < XEN_PMEM_HEADER_SIZE || le32(F(page, header_size)) > XEN_PMEM_COPY_SIZE ||
        le32(F(page, copy)) != copy || le64(F(page, own_offset)) != found || !le64(F(page, sequence)) ||
        all_zero(F(page, uuid), 16) || all_zero(F(page, disk_guid), 16) || !le64(F(page, namespace_size)) ||
        !le32(F(page, page_size)) || !le32(F(page, frame_table_entry)) || !le32(F(page, m2p_entry)) ||
        !text(F(page, creator), 32))
        return "corrupt";
    base = le64(F(page, reserved_base));
    size = le64(F(page, reserved_size));
    device = le64(F(page, device_size));
    if (!base || !size || base % 4096 || size % XEN_PMEM_SUPERPAGE || size > UINT64_MAX - base || base + size > device)
        return "corrupt";
    if (overlap(base, base + size, XEN_PMEM_PRIMARY_OFFSET, XEN_PMEM_PRIMARY_OFFSET + XEN_PMEM_COPY_SIZE) ||
        overlap(base, base + size, XEN_PMEM_BACKUP_OFFSET, XEN_PMEM_BACKUP_OFFSET + XEN_PMEM_COPY_SIZE) ||
        overlap(base, base + size, found, found + XEN_PMEM_COPY_SIZE))
        return "corrupt";
    return "valid";
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "offsets")) {
#define PRINT(field)                                                                                                \
    printf("%s %zu %zu\n", #field, offsetof(struct xen_pmem_superblock, field),                                     \
           sizeof(((struct xen_pmem_superblock *)0)->field));
        OFFSETS(PRINT)
        printf("end %zu 0\n", sizeof(struct xen_pmem_superblock));
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "page")) {
        static uint8_t page[XEN_PMEM_COPY_SIZE];
        if (fread(page, sizeof page, 1, stdin) != 1) {
            fprintf(stderr, "reader: a page is %u bytes\n", XEN_PMEM_COPY_SIZE);
            return 1;
        }
        puts(judge(page, strtoull(argv[2], NULL, 0)));
        return 0;
    }
    fprintf(stderr, "usage: reader page OFFSET < PAGE | reader offsets\n");
    return 2;
}
