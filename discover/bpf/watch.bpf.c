// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What the kernel reports of pmem devices: that they come, change and go, and that somebody writes to an area reserved for
 * Xen. One object for all kernels with BTF, from Linux 5.10 on: of the kernel's structures only the fields used are
 * declared, and relocated when it is loaded. What differs between kernels in a function's arguments is found in their BTF
 * by the loader (src/bpf/kernel.rs).
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define DISK_NAME_LEN 32
#define TASK_COMM_LEN 16
#define SIGKILL 9

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
    int major;
    int first_minor;
    char disk_name[DISK_NAME_LEN];
};

struct block_device {
    struct gendisk *bd_disk;
};

struct bvec_iter {
    __u64 bi_sector;
    unsigned int bi_size;
};

struct bio {
    struct block_device *bi_bdev;
    unsigned int bi_opf;
    struct bvec_iter bi_iter;
};

/* As it was before Linux 5.12: the same structure, in BTF's naming of flavours. */
struct bio___with_disk {
    struct gendisk *bi_disk;
};

struct kobject {
    const char *name;
};

struct device {
    struct kobject kobj;
};

#pragma clang attribute pop

/* --- Devices that come, change and go --- */

enum change {
    CHANGED = 0,
    REMOVED = 1,
};

struct hint {
    __u32 change;
    char name[DISK_NAME_LEN];
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} hints SEC(".maps");

/* How many hints there was no room for. */
__u64 hints_lost = 0;

static __always_inline void tell(__u32 change, const char *name)
{
    struct hint *hint = bpf_ringbuf_reserve(&hints, sizeof(*hint), 0);

    if (!hint) {
        __sync_fetch_and_add(&hints_lost, 1);
        return;
    }
    hint->change = change;
    if (bpf_probe_read_kernel_str(hint->name, sizeof(hint->name), name) < 0)
        hint->name[0] = 0;
    bpf_ringbuf_submit(hint, 0);
}

/* Whether the functions about partitions are given a block device, as before Linux 5.15, in place of its disk. */
const volatile bool partitions_by_block_device = false;

/* Their argument is one or the other: it is read as memory, for the verifier knows it by the type that it has here. */
static __always_inline void tell_partitioned(unsigned long subject)
{
    struct gendisk *disk = (struct gendisk *)subject;
    char name[DISK_NAME_LEN] = {};

    if (partitions_by_block_device)
        disk = BPF_CORE_READ((struct block_device *)subject, bd_disk);
    if (BPF_CORE_READ_STR_INTO(&name, disk, disk_name) < 0)
        return;
    if (name[0] == 'p' && name[1] == 'm' && name[2] == 'e' && name[3] == 'm')
        tell(CHANGED, name);
}

static __always_inline bool is_pmem(struct gendisk *disk)
{
    return disk->disk_name[0] == 'p' && disk->disk_name[1] == 'm' && disk->disk_name[2] == 'e' &&
           disk->disk_name[3] == 'm';
}

SEC("fexit/device_add_disk")
int BPF_PROG(disk_added, struct device *parent, struct gendisk *disk)
{
    if (is_pmem(disk))
        tell(CHANGED, disk->disk_name);
    return 0;
}

SEC("fexit/del_gendisk")
int BPF_PROG(disk_removed, struct gendisk *disk)
{
    if (is_pmem(disk))
        tell(REMOVED, disk->disk_name);
    return 0;
}

/* Its partition table was read again. */
SEC("fexit/bdev_disk_changed")
int BPF_PROG(disk_changed, unsigned long subject)
{
    tell_partitioned(subject);
    return 0;
}

/* A single partition was added, removed or resized (BLKPG). */
SEC("fexit/bdev_add_partition")
int BPF_PROG(partition_added, unsigned long subject)
{
    tell_partitioned(subject);
    return 0;
}

SEC("fexit/bdev_del_partition")
int BPF_PROG(partition_removed, unsigned long subject)
{
    tell_partitioned(subject);
    return 0;
}

SEC("fexit/bdev_resize_partition")
int BPF_PROG(partition_resized, unsigned long subject)
{
    tell_partitioned(subject);
    return 0;
}

/* Namespaces in devdax mode have character devices, which are no disks. */
static __always_inline void tell_dax(struct device *device)
{
    const char *name = device->kobj.name;
    char start[4] = {};

    if (bpf_probe_read_kernel_str(start, sizeof(start), name) == sizeof(start) && start[0] == 'd' && start[1] == 'a' &&
        start[2] == 'x')
        tell(CHANGED, name);
}

SEC("fexit/device_add")
int BPF_PROG(device_added, struct device *device)
{
    tell_dax(device);
    return 0;
}

SEC("fexit/device_del")
int BPF_PROG(device_removed, struct device *device)
{
    tell_dax(device);
    return 0;
}

/* --- Writes to what is reserved for Xen --- */

#define REQ_OP_MASK 0xff
#define SECTOR 512

struct reserved {
    __u64 start; /* In sectors from the start of the disk, the end not included */
    __u64 end;
    __u64 offences;
    __u64 last; /* When the last event was sent, in nanoseconds; 0 before the first */
};

/* By the number of the disk: major << 20 | minor. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct reserved);
} reserved SEC(".maps");

struct offence {
    __u32 disk;
    __u32 operation;
    __u32 process;
    __u32 thread;
    __u64 sector;
    __u64 bytes;
    __u64 offences; /* On this disk so far, this one included */
    char command[TASK_COMM_LEN];
    __u32 killed;
    __u32 padding;
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1024 * 1024);
} offences SEC(".maps");

const volatile bool kill_offenders = false;
/* The least time between two events of a disk, in nanoseconds. */
const volatile __u64 pause_ns = 100000000;

static __always_inline bool writes(__u32 operation)
{
    /* Operations with an odd number write (include/linux/blk_types.h): WRITE 1, DISCARD 3, SECURE_ERASE 5, ZONE_APPEND 7,
     * WRITE_ZEROES 9. */
    return operation & 1;
}

static __always_inline struct gendisk *disk_of(struct bio *bio)
{
    if (bpf_core_field_exists(bio->bi_bdev))
        return bio->bi_bdev->bd_disk;
    return ((struct bio___with_disk *)bio)->bi_disk;
}

static __always_inline int queued(struct bio *bio)
{
    __u32 operation = bio->bi_opf & REQ_OP_MASK;
    struct reserved *area;
    struct offence *event;
    struct gendisk *disk;
    __u64 start, end, now, count;
    __u32 number;
    bool killed;

    if (!writes(operation) || !bio->bi_iter.bi_size)
        return 0;
    disk = disk_of(bio);
    number = (__u32)disk->major << 20 | (__u32)disk->first_minor;
    area = bpf_map_lookup_elem(&reserved, &number);
    if (!area)
        return 0;
    /* Partitions have been remapped by now: the sector counts from the start of the disk. */
    start = bio->bi_iter.bi_sector;
    end = start + (bio->bi_iter.bi_size + SECTOR - 1) / SECTOR;
    if (end <= area->start || start >= area->end)
        return 0;

    /* Kernels before 5.12 add, and do not return what was there: two offences at the same moment may both be given the number
     * of the second. None is left uncounted. */
    __sync_fetch_and_add(&area->offences, 1);
    count = area->offences;
    killed = kill_offenders && bpf_send_signal(SIGKILL) == 0;
    now = bpf_ktime_get_ns();
    if (area->last && now - area->last < pause_ns && !killed)
        return 0;

    event = bpf_ringbuf_reserve(&offences, sizeof(*event), 0);
    if (!event)
        return 0;
    area->last = now;
    event->disk = number;
    event->operation = operation;
    event->process = bpf_get_current_pid_tgid() >> 32;
    event->thread = (__u32)bpf_get_current_pid_tgid();
    event->sector = start;
    event->bytes = bio->bi_iter.bi_size;
    event->offences = count;
    event->killed = killed;
    event->padding = 0;
    bpf_get_current_comm(event->command, sizeof(event->command));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

SEC("tp_btf/block_bio_queue")
int BPF_PROG(bio_queued, struct bio *bio)
{
    return queued(bio);
}

/* The same before Linux 5.11, where the tracepoint names the queue as well. */
SEC("tp_btf/block_bio_queue")
int BPF_PROG(bio_queued_with_queue, void *queue, struct bio *bio)
{
    return queued(bio);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
