/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Drives the hypercall by hand, from a PV Dom0, for tests of the hypervisor's
 * side alone. Build it with: gcc -static -I../include pmemctl.c
 *
 *   pmemctl add|dry-run START END RESERVED-START RESERVED-END
 *   pmemctl list
 *   pmemctl faults START END RESERVED-START RESERVED-END [STRIDE]
 *
 * Frame numbers are hexadecimal, ends are not included. `faults` repeats a
 * report, failing its 1st, (1 + STRIDE)th, ... step, until it succeeds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "xen-pmem.h"

/* Linux: include/uapi/xen/privcmd.h */
struct privcmd_hypercall {
    uint64_t op;
    uint64_t arg[5];
};
#define IOCTL_PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))

/* Xen: include/public/{xen,hypfs}.h */
#define HYPERVISOR_hypfs_op 42
#define XEN_HYPFS_OP_write_contents 2

static int privcmd;

/* A page that hypercalls may refer to. */
static unsigned char *page;
enum { OP_AT = 0, PATH_AT = 1024, VALUE_AT = 2048, PAGE = 4096 };

static long hypercall(uint64_t op, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    struct privcmd_hypercall call = { op, { a, b, c, d, e } };
    int result = ioctl(privcmd, IOCTL_PRIVCMD_HYPERCALL, &call);

    return result < 0 ? -errno : result;
}

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

static long platform_op(uint32_t cmd, struct xen_pmem_region *region)
{
    struct xen_pmem_op op = { .cmd = cmd, .interface_version = XENPF_INTERFACE_VERSION };
    long result;

    op.u.region = *region;
    memcpy(page + OP_AT, &op, sizeof(op));
    result = hypercall(XEN_PMEM_HYPERVISOR_platform_op, (uintptr_t)(page + OP_AT), 0, 0, 0, 0);
    memcpy(&op, page + OP_AT, sizeof(op));
    *region = op.u.region;

    return result;
}

static void show(const char *what, long result, const struct xen_pmem_region *region)
{
    printf("%s: %s; region %u of %u: [%#llx,%#llx) reserved [%#llx,%#llx), %llu frames needed, %llu used\n", what,
           result < 0 ? strerror((int)-result) : "done", region->index, region->nr_regions,
           (unsigned long long)region->range_start, (unsigned long long)region->range_end,
           (unsigned long long)region->reserved_start, (unsigned long long)region->reserved_end,
           (unsigned long long)region->frames_needed, (unsigned long long)region->frames_used);
}

/* Has Xen fail step number @step from now on; none if it is zero. */
static long inject(uint32_t step)
{
    static const char path[] = "/params/pmem-fail";

    memcpy(page + PATH_AT, path, sizeof(path));
    memcpy(page + VALUE_AT, &step, sizeof(step));
    return hypercall(HYPERVISOR_hypfs_op, XEN_HYPFS_OP_write_contents, (uintptr_t)(page + PATH_AT), sizeof(path),
                     (uintptr_t)(page + VALUE_AT), sizeof(step));
}

static int faults(const struct xen_pmem_region *request, uint32_t stride)
{
    struct xen_pmem_region region;
    unsigned int failures = 0;
    uint32_t step;
    long result;

    for (step = 1;; step += stride) {
        result = inject(step);
        if (result) {
            fprintf(stderr, "cannot inject failures: %s\n", strerror((int)-result));
            return 1;
        }
        region = *request;
        result = platform_op(XENPF_pmem_add, &region);
        if (result != -ENOMEM)
            break;
        failures++;
    }
    inject(0);
    printf("%u failures injected\n", failures);
    show("add", result, &region);

    return result < 0;
}

static int list(void)
{
    struct xen_pmem_region region;
    uint32_t index;
    long result;

    for (index = 0;; index++) {
        region = (struct xen_pmem_region){ .version = XENPF_PMEM_VERSION, .index = index };
        result = platform_op(XENPF_pmem_get, &region);
        if (result == -ENOENT)
            return 0;
        show("get", result, &region);
        if (result < 0)
            return 1;
    }
}

static int usage(void)
{
    fputs("usage: pmemctl add|dry-run|faults START END RESERVED-START RESERVED-END [STRIDE] | list\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct xen_pmem_region region = { .version = XENPF_PMEM_VERSION };
    struct timespec begin, end;
    long result;

    if (argc == 2 && !strcmp(argv[1], "list"))
        return open_hypercalls() ? list() : 1;
    if (argc < 6)
        return usage();

    region.range_start = strtoull(argv[2], NULL, 16);
    region.range_end = strtoull(argv[3], NULL, 16);
    region.reserved_start = strtoull(argv[4], NULL, 16);
    region.reserved_end = strtoull(argv[5], NULL, 16);

    if (!strcmp(argv[1], "faults")) {
        unsigned long stride = argc > 6 ? strtoul(argv[6], NULL, 0) : 1;

        if (!stride || stride > UINT32_MAX)
            return usage();
        return open_hypercalls() ? faults(&region, (uint32_t)stride) : 1;
    }
    if (!strcmp(argv[1], "dry-run"))
        region.flags = XENPF_PMEM_DRY_RUN;
    else if (strcmp(argv[1], "add"))
        return usage();
    if (!open_hypercalls())
        return 1;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    result = platform_op(XENPF_pmem_add, &region);
    clock_gettime(CLOCK_MONOTONIC, &end);
    show(argv[1], result, &region);
    printf("took %lld us\n",
           (end.tv_sec - begin.tv_sec) * 1000000LL + (end.tv_nsec - begin.tv_nsec) / 1000);

    return result < 0;
}
