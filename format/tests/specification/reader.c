/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A second reader of the format, written from docs/format.md alone, to keep the specification honest.
 *
 *   reader page OFFSET < PAGE     says "valid", "missing" or "corrupt" of one page found at OFFSET
 *   reader device < IMAGE         says "prepared", "degraded", "damaged" or "unprepared" of an image with 512-byte blocks
 *   reader offsets                prints each field's name, offset and size
 */
#include <stdbool.h>
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

/* What a page is, without changing it. */
static const char *judge_at(const uint8_t *device, uint64_t offset)
{
    static uint8_t page[XEN_PMEM_COPY_SIZE];
    memcpy(page, device + offset, sizeof page);
    return judge(page, offset);
}

#define BLOCK 512u
#define ENTRY 128u

static uint32_t crc32(const uint8_t *bytes, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* A partition table, as far as this reader needs it. */
struct table {
    bool valid, trace;
    const uint8_t *guid, *entries;
    uint32_t count;
    uint64_t other, first_usable, usable_end, head_end, first_partition;
};

static int by_start(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static struct table read_table(const uint8_t *device, uint64_t size, uint64_t lba, bool primary)
{
    static uint64_t parts[1024][2];
    struct table t = { 0 };
    uint64_t blocks = size / BLOCK, entries, first, last, array, n = 0;
    uint8_t header[92];

    if (lba >= blocks || memcmp(device + lba * BLOCK, "EFI PART", 8))
        return t;
    t.trace = true;
    memcpy(header, device + lba * BLOCK, sizeof header);
    if (memcmp(header + 8, "\0\0\1", 4) || le32(header + 12) != sizeof header)
        return t;
    uint32_t sum = le32(header + 16);
    memset(header + 16, 0, 4);
    if (crc32(header, sizeof header) != sum || le64(header + 24) != lba)
        return t;
    t.other = le64(header + 32);
    first = le64(header + 40);
    last = le64(header + 48);
    entries = le64(header + 72);
    t.count = le32(header + 80);
    if (!t.count || t.count > 1024 || le32(header + 84) != ENTRY)
        return t;
    array = ((uint64_t)t.count * ENTRY + BLOCK - 1) / BLOCK;
    if (entries >= blocks || array > blocks - entries || first > last || last >= blocks || first < 2 + array)
        return t;
    if (primary ? entries < 2 || entries + array > first : entries <= last)
        return t;
    t.entries = device + entries * BLOCK;
    if (crc32(t.entries, (size_t)t.count * ENTRY) != le32(header + 88))
        return t;
    for (uint32_t i = 0; i < t.count; i++) {
        const uint8_t *e = t.entries + (size_t)i * ENTRY;
        if (all_zero(e, 16))
            continue;
        parts[n][0] = le64(e + 32);
        parts[n][1] = le64(e + 40);
        if (parts[n][0] < first || parts[n][1] > last || parts[n][0] > parts[n][1])
            return t;
        n++;
    }
    qsort(parts, n, sizeof parts[0], by_start);
    for (uint64_t i = 1; i < n; i++)
        if (parts[i][0] <= parts[i - 1][1])
            return t;
    t.valid = true;
    t.guid = device + lba * BLOCK + 56;
    t.first_usable = first * BLOCK;
    t.usable_end = (last + 1) * BLOCK;
    t.head_end = (2 + array) * BLOCK;
    t.first_partition = n ? parts[0][0] * BLOCK : t.first_usable;
    return t;
}

enum reading { MISSING, CORRUPT, FOREIGN, VALID };

static enum reading read_copy(const uint8_t *device, uint64_t offset, uint32_t which, const struct table *t)
{
    const char *word = judge_at(device, offset);
    if (*word == 'm')
        return MISSING;
    if (*word == 'c' || le32(F(device + offset, copy)) != which)
        return CORRUPT;
    return t && !memcmp(F(device + offset, disk_guid), t->guid, 16) ? VALID : FOREIGN;
}

static const char *judge_device(const uint8_t *device, uint64_t size)
{
    static const uint64_t place[2] = { XEN_PMEM_PRIMARY_OFFSET, XEN_PMEM_BACKUP_OFFSET };
    struct table p = read_table(device, size, 1, true), b, *t;
    enum reading reading[2] = { MISSING, MISSING };
    uint64_t at[2] = { place[0], place[1] }, gap, gap_end, last = size / BLOCK - 1;
    bool whole;

    if (size < BLOCK)
        return "unprepared";
    b = read_table(device, size, p.valid ? p.other : last, false);
    t = p.valid ? &p : b.valid ? &b : NULL;
    gap = t ? t->head_end : 0;
    gap_end = t ? t->first_partition : size;
    for (int i = 0; i < 2; i++)
        if (at[i] >= gap && at[i] + XEN_PMEM_COPY_SIZE <= gap_end)
            reading[i] = read_copy(device, at[i], i, t);
    if (!t)
        return (p.trace || b.trace) && (reading[0] != MISSING || reading[1] != MISSING) ? "damaged" : "unprepared";
    if (reading[0] != VALID && reading[1] != VALID) {
        uint64_t from = (gap + 4095) / 4096 * 4096, to = gap_end - from > 16ull << 30 ? from + (16ull << 30) : gap_end;
        for (uint64_t o = from; o + XEN_PMEM_COPY_SIZE <= to; o += 4096)
            for (int i = 0; i < 2; i++)
                if (read_copy(device, o, i, t) == VALID &&
                    (reading[i] != VALID || le64(F(device + o, sequence)) > le64(F(device + at[i], sequence)))) {
                    reading[i] = VALID;
                    at[i] = o;
                }
    }

    const uint8_t *c[2] = { device + at[0], device + at[1] }, *believed;
    whole = reading[0] == VALID && reading[1] == VALID;
    if (whole) {
        uint64_t s0 = le64(F(c[0], sequence)), s1 = le64(F(c[1], sequence));
        if (s0 == s1) {
            /* Equal but for the signature, the checksum, the copy's number and its offset. */
            if (memcmp(F(c[0], uuid), F(c[1], uuid), XEN_PMEM_HEADER_SIZE - offsetof(struct xen_pmem_superblock, uuid)) ||
                memcmp(F(c[0], features_compatible), F(c[1], features_compatible), 24))
                return "damaged";
        } else {
            whole = false;
        }
        believed = s0 >= s1 ? c[0] : c[1];
    } else if (reading[0] == VALID || reading[1] == VALID) {
        believed = reading[0] == VALID ? c[0] : c[1];
    } else {
        return reading[0] == CORRUPT || reading[1] == CORRUPT ? "damaged" : "unprepared";
    }

    uint64_t base = le64(F(believed, reserved_base)), end = base + le64(F(believed, reserved_size));
    if (le64(F(believed, device_size)) != size || base < gap || end > gap_end)
        return "damaged";
    for (int i = 0; i < 2; i++)
        if (overlap(base, end, at[i], at[i] + XEN_PMEM_COPY_SIZE))
            return "damaged";
    if (at[0] != place[0] || at[1] != place[1] || !p.valid || !b.valid || p.other != last || t->first_usable < end)
        whole = false;
    if (p.valid && b.valid &&
        (memcmp(p.guid, b.guid, 16) || p.first_usable != b.first_usable || p.usable_end != b.usable_end ||
         p.count != b.count || memcmp(p.entries, b.entries, (size_t)p.count * ENTRY)))
        whole = false;
    return whole ? "prepared" : "degraded";
}

static int device(FILE *in)
{
    size_t size = 0, room = 1 << 20;
    uint8_t *bytes = malloc(room);
    while (bytes) {
        size_t got = fread(bytes + size, 1, room - size, in);
        size += got;
        if (!got) {
            puts(judge_device(bytes, size));
            free(bytes);
            return 0;
        }
        if (size == room)
            bytes = realloc(bytes, room *= 2);
    }
    perror("reader");
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "device"))
        return device(stdin);
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
    fprintf(stderr, "usage: reader page OFFSET < PAGE | reader device < IMAGE | reader offsets\n");
    return 2;
}
