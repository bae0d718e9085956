/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Drives the hypercall by hand, from a PV Dom0, for tests of the hypervisor's
 * side alone. Build it with: gcc -static -I../include pmemctl.c
 *
 *   pmemctl add|dry-run START END RESERVED-START RESERVED-END
 *   pmemctl list
 *   pmemctl abi
 *   pmemctl blind
 *   pmemctl faults START END RESERVED-START RESERVED-END [STRIDE]
 *   pmemctl scribble FRAME
 *
 * Frame numbers are hexadecimal, ends are not included. `faults` repeats a
 * report, failing its 1st, (1 + STRIDE)th, ... step, until it succeeds; only a
 * hypervisor with assertions can do that. `scribble` lets the kernel write to
 * FRAME and the next one through a mapping of /dev/mem, at addresses that are not
 * aligned, and says whether this changed anything.
 *
 * Nothing is sent to a hypervisor that does not advertise the operations (exit
 * code 6), except by `blind`: it sends both without asking, a report of nothing,
 * to a hypervisor that is known not to use the numbers for something else. `abi`
 * prints what is advertised.
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

#include "hypercalls.h"
#include "xen-pmem.h"

/* Xen: include/public/hypfs.h */
#define XEN_HYPFS_OP_write_contents 2

/* Opens the way to a hypervisor that has the operations: 0, or an exit code. */
static int open_operations(void)
{
    long abi;

    if (!open_hypercalls())
        return 1;
    abi = advertised(XEN_PMEM_ABI_NODE);
    if (abi == XENPF_PMEM_ABI)
        return 0;
    if (abi < 0)
        fprintf(stderr, "the hypervisor does not advertise the operations: %s\n", strerror((int)-abi));
    else
        fprintf(stderr, "the hypervisor advertises version %ld, not %d\n", abi, XENPF_PMEM_ABI);

    return UNSUPPORTED;
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

    memcpy(page + IN_AT, path, sizeof(path));
    memcpy(page + OUT_AT, &step, sizeof(step));
    return hypercall(HYPERVISOR_hypfs_op, XEN_HYPFS_OP_write_contents, (uintptr_t)(page + IN_AT), sizeof(path),
                     (uintptr_t)(page + OUT_AT), sizeof(step));
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
        region = (struct xen_pmem_region){ .index = index };
        result = platform_op(XENPF_pmem_get, &region);
        if (result == -ENOENT)
            return 0;
        show("get", result, &region);
        if (result < 0)
            return 1;
    }
}

static int abi(void)
{
    long abi;

    if (!open_hypercalls())
        return 1;
    abi = advertised(XEN_PMEM_ABI_NODE);
    if (abi < 0)
        printf("none: %s\n", strerror((int)-abi));
    else
        printf("%ld\n", abi);

    return 0;
}

static int blind(void)
{
    static const struct {
        const char *name;
        uint32_t cmd;
    } operations[] = { { "add", XENPF_pmem_add }, { "get", XENPF_pmem_get } };
    unsigned int i;

    if (!open_hypercalls())
        return 1;
    for (i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
        struct xen_pmem_region region = { .index = UINT32_MAX };
        long result = platform_op(operations[i].cmd, &region);

        printf("%s: %s\n", operations[i].name, result < 0 ? strerror((int)-result) : "done");
    }

    return 0;
}

/*
 * Reading from a pipe makes the kernel store to the mapping, in pieces of eight
 * bytes where it can.
 */
static int scribble(unsigned long frame)
{
    static const char text[] = "sixteen bytes!!";
    static const unsigned int offsets[] = { 1, 11, PAGE - 4 };
    unsigned char before[2 * PAGE], *map;
    int memory = open("/dev/mem", O_RDWR | O_CLOEXEC), ends[2];
    unsigned int i;

    if (memory < 0 || pipe(ends)) {
        perror("cannot open /dev/mem, or a pipe");
        return 1;
    }
    map = mmap(NULL, sizeof(before), PROT_READ | PROT_WRITE, MAP_SHARED, memory, (off_t)(frame * PAGE));
    if (map == MAP_FAILED) {
        perror("cannot map /dev/mem");
        return 1;
    }
    memcpy(before, map, sizeof(before));
    for (i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
        if (write(ends[1], text, sizeof(text)) != (ssize_t)sizeof(text) ||
            read(ends[0], map + offsets[i], sizeof(text)) != (ssize_t)sizeof(text)) {
            perror("cannot write to, or read from, the pipe");
            return 1;
        }
    }
    puts(memcmp(before, map, sizeof(before)) ? "changed" : "unchanged");

    return 0;
}

static int usage(void)
{
    fputs("usage: pmemctl add|dry-run|faults START END RESERVED-START RESERVED-END [STRIDE] | list | abi | blind\n"
          "       pmemctl scribble FRAME\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct xen_pmem_region region = { 0 };
    struct timespec begin, end;
    long result;
    int failed;

    if (argc == 2 && !strcmp(argv[1], "abi"))
        return abi();
    if (argc == 2 && !strcmp(argv[1], "blind"))
        return blind();
    if (argc == 3 && !strcmp(argv[1], "scribble"))
        return scribble(strtoul(argv[2], NULL, 16));
    if (argc == 2 && !strcmp(argv[1], "list")) {
        failed = open_operations();
        return failed ? failed : list();
    }
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
        failed = open_operations();
        return failed ? failed : faults(&region, (uint32_t)stride);
    }
    if (!strcmp(argv[1], "dry-run"))
        region.flags = XENPF_PMEM_DRY_RUN;
    else if (strcmp(argv[1], "add"))
        return usage();
    failed = open_operations();
    if (failed)
        return failed;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    result = platform_op(XENPF_pmem_add, &region);
    clock_gettime(CLOCK_MONOTONIC, &end);
    show(argv[1], result, &region);
    printf("took %lld us\n",
           (end.tv_sec - begin.tv_sec) * 1000000LL + (end.tv_nsec - begin.tv_nsec) / 1000);

    return result < 0;
}
