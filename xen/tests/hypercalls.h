/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hypercalls of a program in Dom0, by privcmd, and what the hypervisor says of
 * itself in hypfs: for the test programs.
 */
#ifndef XEN_PMEM_TESTS_HYPERCALLS_H
#define XEN_PMEM_TESTS_HYPERCALLS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Linux: include/uapi/xen/privcmd.h */
struct privcmd_hypercall {
    uint64_t op;
    uint64_t arg[5];
};
#define IOCTL_PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))

/* Xen: include/public/{xen,hypfs}.h */
#define HYPERVISOR_hypfs_op 42
#define XEN_HYPFS_OP_read 1
#define XEN_HYPFS_TYPE_UINT 3
struct hypfs_number {
    uint8_t type, encoding;
    uint16_t pad;
    uint32_t content_len, max_write_len;
    uint32_t content;
};

/* The exit code if the hypervisor does not have the operations. */
enum { UNSUPPORTED = 6 };

static int privcmd;

/* A page that hypercalls may refer to: an operation, what it reads, what it writes. */
static unsigned char *page;
enum { OP_AT = 0, IN_AT = 1024, OUT_AT = 2048, PAGE = 4096 };

/* What the hypervisor answers; a negative errno if it refuses. */
static long hypercall(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    struct privcmd_hypercall call = { op, { a, b, c, d, e } };
    int result = ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call);

    return result < 0 ? -errno : result;
}

/* To be called first. Says what is wrong if it answers 0. */
static int open_hypercalls(void)
{
    int buffers = open("/dev/xen/hypercall", O_RDWR | O_CLOEXEC);

    privcmd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    if (privcmd < 0 || buffers < 0) {
        perror("cannot open /dev/xen/privcmd and /dev/xen/hypercall");
        return 0;
    }
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, buffers, 0);
    if (page == MAP_FAILED) {
        perror("cannot map /dev/xen/hypercall");
        return 0;
    }
    return 1;
}

/*
 * The number in a node of hypfs by which the hypervisor advertises an interface,
 * or a negative errno.
 */
static long advertised(const char *node)
{
    size_t size = strlen(node) + 1;
    struct hypfs_number number;
    long result;

    if (size > OUT_AT - IN_AT)
        return -ENAMETOOLONG;
    memcpy(page + IN_AT, node, size);
    result = hypercall(HYPERVISOR_hypfs_op, XEN_HYPFS_OP_read, (uintptr_t)(page + IN_AT), size,
                       (uintptr_t)(page + OUT_AT), sizeof(number));
    if (result < 0)
        return result;
    memcpy(&number, page + OUT_AT, sizeof(number));

    return number.type == XEN_HYPFS_TYPE_UINT ? (long)number.content : -EPROTO;
}

#endif /* XEN_PMEM_TESTS_HYPERCALLS_H */
