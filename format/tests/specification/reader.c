/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A second reader of the format, written from docs/format.md alone, to keep the specification honest.
 *
 *   reader page OFFSET < PAGE     says "valid", "missing" or "corrupt" of one page found at OFFSET
 *   reader device < IMAGE         says "prepared", "degraded", "damaged" or "unprepared" of an image
 *   reader devices < STREAM       says the same of each sparse device of a stream, and where its reserved area is, if any
 *   reader offsets                prints each field's name, offset and size
 *
 * A stream is a sequence of devices, little endian: size (8 bytes), block size or 0 for an image (4), number of pieces (4); then
 * each piece: offset (8), length (4), bytes. What no piece covers is zero.
 */
#include <inttypes.h>
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

/* A reflected CRC of 32 bits with initial and final value all ones. */
static uint32_t crc(const uint8_t *bytes, size_t size, uint32_t polynomial)
{
    static uint32_t table[2][256];
    uint32_t *t = table[polynomial == 0xedb88320u], sum = ~0u;
    if (!t[1])
        for (uint32_t i = 0; i < 256; i++) {
            t[i] = i;
            for (int bit = 0; bit < 8; bit++)
                t[i] = t[i] >> 1 ^ (t[i] & 1 ? polynomial : 0);
        }
    for (size_t i = 0; i < size; i++)
        sum = sum >> 8 ^ t[(sum ^ bytes[i]) & 0xff];
    return ~sum;
}

static uint32_t crc32c(const uint8_t *bytes, size_t size) { return crc(bytes, size, 0x82f63b78u); }
static uint32_t crc32(const uint8_t *bytes, size_t size) { return crc(bytes, size, 0xedb88320u); }

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
    uint64_t most = le32(F(page, page_size)) < XEN_PMEM_SUPERPAGE ? le32(F(page, page_size)) : XEN_PMEM_SUPERPAGE;
    uint64_t frame = le32(F(page, page_size));
    if (frame < 4096 || (frame & (frame - 1)) || le32(F(page, frame_table_entry)) > most ||
        le32(F(page, m2p_entry)) > most || le32(F(page, compat_m2p_entry)) > most)
        return "corrupt";
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

#define ENTRY 128u

/* A device, and the size of its blocks. A sparse one knows its pieces, in order; all else is zero. */
struct device {
    const uint8_t *bytes;
    uint64_t size;
    uint32_t block, pieces;
    uint64_t (*piece)[2];
};

/* The first page, from the one at `offset` on, that may hold anything but zeros; the size of the device if there is none. */
static uint64_t next_data(const struct device *d, uint64_t offset)
{
    for (uint32_t i = 0; i < d->pieces; i++)
        if (d->piece[i][0] + d->piece[i][1] > offset)
            return d->piece[i][0] > offset ? d->piece[i][0] / 4096 * 4096 : offset;
    return d->piece ? d->size : offset;
}

/* A partition table, as far as this reader needs it. */
struct table {
    bool valid, trace;
    const uint8_t *guid, *entries;
    uint32_t count;
    uint64_t other, first, last, entries_at, entries_end, first_partition;
};

static uint64_t entry_blocks(const struct device *d, uint32_t count)
{
    return ((uint64_t)count * ENTRY + d->block - 1) / d->block;
}

static int by_start(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* R2 to R7. */
static struct table read_table(const struct device *d, uint64_t lba, bool primary)
{
    static uint64_t parts[1024][2];
    static uint8_t header[4096];
    struct table t = { 0 };
    uint64_t blocks = d->size / d->block, array, n = 0;
    const uint8_t *at = d->bytes + lba * d->block;

    if (lba >= blocks || memcmp(at, "EFI PART", 8))
        return t;
    t.trace = true;
    uint32_t size = le32(at + 12);
    if (le32(at + 8) != 0x10000 || size < 92 || size > d->block)
        return t;
    memcpy(header, at, size);
    memset(header + 16, 0, 4);
    if (crc32(header, size) != le32(at + 16) || le64(at + 24) != lba)
        return t;
    t.guid = at + 56;
    t.other = le64(at + 32);
    t.first = le64(at + 40);
    t.last = le64(at + 48);
    t.entries_at = le64(at + 72);
    t.count = le32(at + 80);
    if (!t.count || t.count > 1024 || le32(at + 84) != ENTRY)
        return t;
    array = entry_blocks(d, t.count);
    if (t.entries_at >= blocks || array > blocks - t.entries_at)
        return t;
    t.entries_end = t.entries_at + array;
    if (t.first > t.last || t.last >= blocks || t.first < 2 + array)
        return t;
    if (primary && (t.entries_at < 2 || t.entries_end > t.first))
        return t;
    if (!primary && (lba <= t.last || t.entries_at <= t.last || (t.entries_at <= lba && lba < t.entries_end)))
        return t;
    t.entries = d->bytes + t.entries_at * d->block;
    if (crc32(t.entries, (size_t)t.count * ENTRY) != le32(at + 88))
        return t;
    for (uint32_t i = 0; i < t.count; i++) {
        const uint8_t *e = t.entries + (size_t)i * ENTRY;
        if (all_zero(e, 16))
            continue;
        parts[n][0] = le64(e + 32);
        parts[n][1] = le64(e + 40);
        if (parts[n][0] < t.first || parts[n][1] > t.last || parts[n][0] > parts[n][1])
            return t;
        n++;
    }
    qsort(parts, n, sizeof parts[0], by_start);
    for (uint64_t i = 1; i < n; i++)
        if (parts[i][0] <= parts[i - 1][1])
            return t;
    t.first_partition = n ? parts[0][0] : t.first;
    t.valid = true;
    return t;
}

/* R8. */
static void read_tables(const struct device *d, struct table *p, struct table *b)
{
    uint64_t blocks = d->size / d->block;
    struct table none = { 0 };
    *p = read_table(d, 1, true);
    *b = p->valid || blocks ? read_table(d, p->valid ? p->other : blocks - 1, false) : none;
}

/* R1: of an image. */
static uint32_t block_size(const struct device *image)
{
    struct table p[2], b[2];
    uint32_t sizes[2] = { 512, 4096 };
    for (int i = 0; i < 2; i++) {
        struct device d = *image;
        d.block = sizes[i];
        read_tables(&d, &p[i], &b[i]);
    }
    for (int i = 0; i < 2; i++)
        if (p[i].valid)
            return sizes[i];
    for (int i = 0; i < 2; i++)
        if (b[i].valid)
            return sizes[i];
    for (int i = 0; i < 2; i++)
        if (p[i].trace)
            return sizes[i];
    for (int i = 0; i < 2; i++)
        if (b[i].trace)
            return sizes[i];
    return 512;
}

enum block_0 { PROTECTIVE, LOST, SOMETHING_ELSE };

/* R28. */
static enum block_0 read_block_0(const struct device *d)
{
    const uint8_t *mbr = d->bytes;
    bool protective = false, type_ee = false, other = false;
    if (d->size < d->block)
        return LOST;
    if (!all_zero(mbr + 512, d->block - 512))
        return SOMETHING_ELSE;
    for (const uint8_t *r = mbr + 446; r < mbr + 510; r += 16) {
        if (r[4] == 0xee) {
            type_ee = true;
            protective |= le32(r + 8) == 1;
        } else if (r[4]) {
            other = true;
        }
    }
    if (protective && mbr[510] == 0x55 && mbr[511] == 0xaa)
        return PROTECTIVE;
    return other || (!type_ee && !all_zero(mbr, 446)) ? SOMETHING_ELSE : LOST;
}

/* R26. */
static bool hybrid_claims(const struct device *d, uint64_t start, uint64_t end)
{
    for (const uint8_t *r = d->bytes + 446; r < d->bytes + 510; r += 16) {
        uint64_t from = (uint64_t)le32(r + 8) * d->block, size = (uint64_t)le32(r + 12) * d->block;
        if (r[4] && r[4] != 0xee && size && overlap(from, from + size, start, end))
            return true;
    }
    return false;
}

static const struct signature {
    const char *bytes;
    size_t size;
    uint32_t at[5];
} signatures[] = {
#define S(text, ...) { text, sizeof text - 1, { __VA_ARGS__ } }
    S("SWAPSPACE2", 4086, 8182, 16374, 32758, 65526), S("SWAP-SPACE", 4086, 8182, 16374, 32758, 65526),
    S("\x53\xef", 1080), S("\x10\x20\xf5\xf2", 1024), S("\xe2\xe1\xf5\xe0", 1024), S("H+\0\4", 1024),
    S("HX\0\5", 1024), S("XAGF", 512, 4096), S("XAGI", 1024, 8192), S("OCFSV2", 1024, 2048, 4096, 8192),
    S("\x54\x19\1\0", 9564), S("\x19\1\x54\x19", 66908), S("CD001", 32769), S("BEA01", 32769),
    S("_BHRfS_M", 65600), S("LABELONE", 512, 1024, 1536), S("\xfc\x4e\x2b\xa9", 4096),
    S("\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", 4120),
    S("!Stra0tis\x86\xff\2^\x41rh", 516, 4612), S("SKUL\xba\xbe", 16384), S("NVDIMM_PFN_INFO\0", 4096),
    S("NVDIMM_DAX_INFO\0", 4096), S("BTT_ARENA_INFO\0\0", 4096), S("FAT32   ", 82), S("FAT16   ", 54),
    S("FAT12   ", 54), S("EXFAT   ", 3), S("NTFS    ", 3),
};
/* Those at offset 0. */
static const struct signature first[] = { S("LABELONE"), S("\xfc\x4e\x2b\xa9"), S("LUKS\xba\xbe"), S("XFSB") };

static bool has_signature(const uint8_t *page)
{
    return !memcmp(page, XEN_PMEM_PRIMARY_SIGNATURE, 8) || !memcmp(page, XEN_PMEM_BACKUP_SIGNATURE, 8);
}

/* R29. */
static bool start_claimed(const struct device *d, uint64_t gap, uint64_t gap_end)
{
    const uint8_t *h = d->bytes + d->block;
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
        for (int k = 0; k < 5 && signatures[i].at[k]; k++)
            if (signatures[i].at[k] + signatures[i].size <= gap &&
                !memcmp(d->bytes + signatures[i].at[k], signatures[i].bytes, signatures[i].size))
                return true;
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (!memcmp(d->bytes, first[i].bytes, first[i].size))
            return true;
    if (memcmp(h, "EFI PART", 8) &&
        !(all_zero(h, 8) && (le32(h + 8) == 0x10000 || all_zero(h + 8, 8)) && le64(h + 24) <= 1 &&
          all_zero(h + 92, d->block - 92)))
        return true;
    if (gap_end > XEN_PMEM_BACKUP_OFFSET)
        gap_end = XEN_PMEM_BACKUP_OFFSET;
    for (uint64_t at = gap, next; at < gap_end; at = next) {
        next = (at / 4096 + 1) * 4096;
        bool ours = at % 4096 == 0 && (at == XEN_PMEM_PRIMARY_OFFSET || has_signature(d->bytes + at));
        if (!ours && !all_zero(d->bytes + at, (next < gap_end ? next : gap_end) - at))
            return true;
    }
    return false;
}

enum reading { MISSING, CORRUPT, FOREIGN, VALID };

/* R12 and R13. */
static enum reading read_copy(const struct device *d, uint64_t offset, uint32_t which, const struct table *t)
{
    const char *word = judge_at(d->bytes, offset);
    if (*word == 'm')
        return MISSING;
    if (*word == 'c' || le32(F(d->bytes + offset, copy)) != which)
        return CORRUPT;
    return t && !memcmp(F(d->bytes + offset, disk_guid), t->guid, 16) ? VALID : FOREIGN;
}

static bool same_content(const uint8_t *a, const uint8_t *b)
{
    return !memcmp(a + 8, b + 8, 8) && !memcmp(a + 24, b + 24, 32) && !memcmp(a + 64, b + 64, 4096 - 64);
}

static uint64_t sequence(const uint8_t *page) { return le64(F(page, sequence)); }

/* What a device is; a reservation's reserved area, if there is one, goes to `base` and `end`. */
static const char *judge_device(const struct device *d, uint64_t *base, uint64_t *end)
{
    static const uint64_t place[2] = { XEN_PMEM_PRIMARY_OFFSET, XEN_PMEM_BACKUP_OFFSET };
    struct table p, b, *t;
    enum reading reading[2] = { MISSING, MISSING };
    bool contradicted[2] = { false, false };
    uint64_t at[2] = { place[0], place[1] }, gap, gap_end, last = d->size / d->block - 1;
    enum block_0 block_0 = read_block_0(d);

    read_tables(d, &p, &b);
    t = p.valid ? &p : b.valid ? &b : NULL;
    gap = !t ? 0 : p.valid ? p.entries_end * d->block : (2 + entry_blocks(d, b.count)) * d->block;
    gap_end = t ? t->first_partition * d->block : d->size;
    for (int i = 0; i < 2; i++)
        if (at[i] >= (t ? 2 * d->block : 0) && at[i] + XEN_PMEM_COPY_SIZE <= gap_end)
            reading[i] = read_copy(d, at[i], i, t);
    if (!t)
        return (p.trace || b.trace) && (reading[0] != MISSING || reading[1] != MISSING) ? "damaged" : "unprepared";
    if (reading[0] != VALID && reading[1] != VALID) {
        uint64_t from = (gap + 4095) / 4096 * 4096;
        for (uint64_t o = next_data(d, from); o + XEN_PMEM_COPY_SIZE <= gap_end && o - from < XEN_PMEM_SEARCH_LIMIT;
             o = next_data(d, o + 4096)) {
            const uint8_t *page = d->bytes + o;
            if (!has_signature(page))
                continue;
            int i = page[7] == 'B';
            if (read_copy(d, o, i, t) != VALID)
                continue;
            if (reading[i] != VALID || sequence(page) > sequence(d->bytes + at[i])) {
                reading[i] = VALID;
                contradicted[i] = false;
                at[i] = o;
            } else if (sequence(page) == sequence(d->bytes + at[i]) && !same_content(page, d->bytes + at[i])) {
                contradicted[i] = true;
            }
        }
    }

    const uint8_t *c[2] = { d->bytes + at[0], d->bytes + at[1] }, *believed;
    bool whole = reading[0] == VALID && reading[1] == VALID;
    int higher;
    if (whole) {
        if (sequence(c[0]) == sequence(c[1])) {
            if (contradicted[0] || contradicted[1] || !same_content(c[0], c[1]))
                return "damaged";
            higher = 0;
        } else {
            whole = false;
            higher = sequence(c[0]) > sequence(c[1]) ? 0 : 1;
        }
    } else if (reading[0] == VALID || reading[1] == VALID) {
        higher = reading[0] == VALID ? 0 : 1;
    } else {
        return reading[0] == CORRUPT || reading[1] == CORRUPT ? "damaged" : "unprepared";
    }
    if (contradicted[higher])
        return "damaged";
    believed = c[higher];

    uint64_t from = le64(F(believed, reserved_base)), to = from + le64(F(believed, reserved_size));
    if (le64(F(believed, device_size)) != d->size || gap > XEN_PMEM_PRIMARY_OFFSET || from < gap || to > gap_end ||
        block_0 == SOMETHING_ELSE || (block_0 == PROTECTIVE && hybrid_claims(d, from, to)) ||
        (!p.valid && start_claimed(d, gap, gap_end)))
        return "damaged";
    for (int i = 0; i < 2; i++)
        if (overlap(from, to, at[i], at[i] + XEN_PMEM_COPY_SIZE) ||
            (block_0 == PROTECTIVE && hybrid_claims(d, at[i], at[i] + XEN_PMEM_COPY_SIZE)))
            return "damaged";
    *base = from;
    *end = to;
    if (at[0] != place[0] || at[1] != place[1] || !p.valid || !b.valid || p.other != last ||
        t->first * d->block < to || block_0 != PROTECTIVE)
        whole = false;
    if (p.valid && b.valid &&
        (memcmp(p.guid, b.guid, 16) || p.first != b.first || p.last != b.last || p.count != b.count ||
         memcmp(p.entries, b.entries, (size_t)p.count * ENTRY)))
        whole = false;
    return whole ? "prepared" : "degraded";
}

static void say(struct device *d)
{
    uint64_t base = 0, end = 0;
    if (!d->block)
        d->block = block_size(d);
    printf("%s", judge_device(d, &base, &end));
    if (end)
        printf(" %" PRIu64 " %" PRIu64, base, end - base);
    putchar('\n');
}

/* Room behind the end, so that a signature may be compared near it. */
#define SLACK 8192

static int device(FILE *in)
{
    size_t size = 0, room = 1 << 20;
    uint8_t *bytes = calloc(1, room + SLACK);
    while (bytes) {
        size_t got = fread(bytes + size, 1, room - size, in);
        size += got;
        if (!got) {
            struct device d = { bytes, size, 0, 0, NULL };
            uint64_t base, end;
            memset(bytes + size, 0, SLACK);
            d.block = block_size(&d);
            puts(judge_device(&d, &base, &end));
            free(bytes);
            return 0;
        }
        if (size == room)
            bytes = realloc(bytes, (room *= 2) + SLACK);
    }
    perror("reader");
    return 1;
}

static bool get(FILE *in, void *bytes, size_t size) { return fread(bytes, 1, size, in) == size; }

static int devices(FILE *in)
{
    static uint8_t head[16], piece[12];
    static uint64_t (*dirty)[2];
    uint8_t *bytes = NULL;
    uint64_t room = 0;

    while (get(in, head, sizeof head)) {
        struct device d = { 0 };
        uint32_t pieces = le32(head + 12);
        d.size = le64(head);
        d.block = le32(head + 8);
        if (d.size + SLACK > room) {
            room = d.size + SLACK;
            free(bytes);
            bytes = calloc(1, room);
        }
        dirty = realloc(dirty, (pieces + 1) * sizeof *dirty);
        if (!bytes || !dirty)
            return 1;
        for (uint32_t i = 0; i < pieces; i++) {
            if (!get(in, piece, sizeof piece))
                return 1;
            dirty[i][0] = le64(piece);
            dirty[i][1] = le32(piece + 8);
            if (dirty[i][0] > d.size || dirty[i][1] > d.size - dirty[i][0] || !get(in, bytes + dirty[i][0], dirty[i][1]))
                return 1;
        }
        d.bytes = bytes;
        d.piece = dirty;
        d.pieces = pieces;
        say(&d);
        for (uint32_t i = 0; i < pieces; i++)
            memset(bytes + dirty[i][0], 0, dirty[i][1]);
    }
    free(bytes);
    free(dirty);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "device"))
        return device(stdin);
    if (argc == 2 && !strcmp(argv[1], "devices"))
        return devices(stdin);
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
    fprintf(stderr, "usage: reader page OFFSET < PAGE | reader device < IMAGE | reader devices < STREAM | reader offsets\n");
    return 2;
}
