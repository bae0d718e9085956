/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gives persistent memory to guests by hand, and does with it what guests and
 * toolstacks might, from a PV Dom0: for tests of the hypervisor's side alone.
 * Build it with: gcc -static pmemguest.c
 *
 *   pmemguest abi
 *   pmemguest add DOMID GFN MFN COUNT
 *   pmemguest remove DOMID MFN COUNT
 *   pmemguest get DOMID
 *   pmemguest permit DOMID MFN COUNT     gives access, as iomem= does
 *   pmemguest log-dirty DOMID            what migration begins with
 *   pmemguest decrease|unmap|exchange|populate|page-on-demand DOMID GFN
 *   pmemguest move DOMID GFN NEW-GFN     moves a page in the guest's physmap
 *   pmemguest map-io DOMID GFN MFN       XEN_DOMCTL_memory_mapping
 *   pmemguest foreign DOMID GFN          maps a guest's page into Dom0
 *   pmemguest grant DOMID REF GFN TO     grants it to domain TO in the guest's name
 *   pmemguest hold DOMID REF             maps what was granted until it is killed
 *
 * Domain IDs are decimal, all else is hexadecimal. What the hypervisor answers
 * is printed: `done`, or the error's name. The exit code is 0 if it is done, 1
 * if not, and 6 if the hypervisor does not have the operation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hypercalls.h"

/* Linux: include/uapi/xen/{privcmd,gntdev}.h */
struct privcmd_mmapbatch_v2 {
    unsigned int num;
    uint16_t dom;
    uint64_t addr;
    const uint64_t *arr;
    int *err;
};
#define IOCTL_PRIVCMD_MMAPBATCH_V2 _IOC(_IOC_NONE, 'P', 4, sizeof(struct privcmd_mmapbatch_v2))

struct privcmd_mmap_resource {
    uint16_t dom;
    uint32_t type, id, idx;
    uint64_t num, addr;
};
#define IOCTL_PRIVCMD_MMAP_RESOURCE _IOC(_IOC_NONE, 'P', 7, sizeof(struct privcmd_mmap_resource))

struct gntdev_map_grant_ref {
    uint32_t count, pad;
    uint64_t index;
    struct {
        uint32_t domid, ref;
    } refs[1];
};
#define IOCTL_GNTDEV_MAP_GRANT_REF _IOC(_IOC_NONE, 'G', 0, sizeof(struct gntdev_map_grant_ref))

/* Xen: include/public/{xen,domctl,memory,grant_table}.h */
#define HYPERVISOR_memory_op 12
#define HYPERVISOR_domctl 36

#define XEN_DOMCTL_INTERFACE_VERSION 0x17
#define XEN_DOMCTL_shadow_op 10
#define XEN_DOMCTL_iomem_permission 20
#define XEN_DOMCTL_memory_mapping 39
#define XEN_DOMCTL_pmem_map 90
#define XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY 2
struct xen_domctl {
    uint32_t cmd, interface_version;
    uint16_t domain, pad[3];
    union {
        struct {
            uint32_t op, pad;
            uint64_t first_gfn, first_mfn, nr, done, given, owned;
        } pmem;
        struct {
            uint64_t first_mfn, nr_mfns;
            uint8_t allow_access;
        } iomem;
        struct {
            uint64_t first_gfn, first_mfn, nr_mfns;
            uint32_t add_mapping;
        } mapping;
        struct {
            uint32_t op, mode;
        } shadow;
        uint8_t pad[128];
    } u;
};
#define PMEM_NODE "/pmem/domctl"
enum { PMEM_ABI = 1, PMEM_ADD = 0, PMEM_REMOVE, PMEM_GET };

#define XENMEM_decrease_reservation 1
#define XENMEM_populate_physmap 6
#define XENMEM_add_to_physmap 7
#define XENMEM_exchange 11
#define XENMEM_remove_from_physmap 15
#define XENMEMF_populate_on_demand (1U << 16)
#define XENMAPSPACE_gmfn 2
struct xen_memory_reservation {
    uint64_t extent_start, nr_extents;
    uint32_t extent_order, mem_flags;
    uint16_t domid, pad[3];
};
struct xen_memory_exchange {
    struct xen_memory_reservation in, out;
    uint64_t nr_exchanged;
};
struct xen_add_to_physmap {
    uint16_t domid, size;
    uint32_t space;
    uint64_t idx, gpfn;
};
struct xen_remove_from_physmap {
    uint16_t domid, pad[3];
    uint64_t gpfn;
};

#define GTF_permit_access 1
struct grant_entry {
    uint16_t flags, domid;
    uint32_t frame;
};

static long domctl(struct xen_domctl *op)
{
    long result;

    op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    memcpy(page + OP_AT, op, sizeof(*op));
    result = hypercall(HYPERVISOR_domctl, (uintptr_t)(page + OP_AT), 0, 0, 0, 0);
    memcpy(op, page + OP_AT, sizeof(*op));

    return result;
}

static long memory_op(uint64_t cmd, const void *argument, size_t size)
{
    memcpy(page + OP_AT, argument, size);
    return hypercall(HYPERVISOR_memory_op, cmd, (uintptr_t)(page + OP_AT), 0, 0, 0);
}

static int answer(long result)
{
    const char *name = result < 0 ? strerrorname_np((int)-result) : "done";

    printf("%s\n", name ? name : "unknown error");
    return result < 0;
}

static int pmem(uint32_t op, uint16_t domain, uint64_t gfn, uint64_t mfn, uint64_t nr)
{
    struct xen_domctl call = {
        .cmd = XEN_DOMCTL_pmem_map,
        .domain = domain,
        .u.pmem = { .op = op, .first_gfn = gfn, .first_mfn = mfn, .nr = nr },
    };
    long abi = advertised(PMEM_NODE), result;

    if (abi != PMEM_ABI) {
        fprintf(stderr, "the hypervisor does not have the operation: %ld\n", abi);
        return UNSUPPORTED;
    }
    result = domctl(&call);
    printf("%#llx frames dealt with, %#llx given, %#llx owned: ", (unsigned long long)call.u.pmem.done,
           (unsigned long long)call.u.pmem.given, (unsigned long long)call.u.pmem.owned);

    return answer(result);
}

/* One extent, which is the frame @gfn. Answers how many were dealt with. */
static int reservation(uint64_t cmd, uint16_t domain, uint64_t gfn, uint32_t flags)
{
    struct xen_memory_reservation argument = {
        .extent_start = (uintptr_t)(page + IN_AT),
        .nr_extents = 1,
        .mem_flags = flags,
        .domid = domain,
    };
    long result;

    memcpy(page + IN_AT, &gfn, sizeof(gfn));
    result = memory_op(cmd, &argument, sizeof(argument));
    if (result < 0)
        return answer(result);
    printf("%ld of 1 done\n", result);

    return result != 1;
}

static int exchange(uint16_t domain, uint64_t gfn)
{
    struct xen_memory_exchange argument = {
        .in = { .extent_start = (uintptr_t)(page + IN_AT), .nr_extents = 1, .domid = domain },
        .out = { .extent_start = (uintptr_t)(page + OUT_AT), .nr_extents = 1, .domid = domain },
    };

    memcpy(page + IN_AT, &gfn, sizeof(gfn));
    memcpy(page + OUT_AT, &gfn, sizeof(gfn));
    return answer(memory_op(XENMEM_exchange, &argument, sizeof(argument)));
}

static int move(uint16_t domain, uint64_t gfn, uint64_t to)
{
    struct xen_add_to_physmap argument = { .domid = domain, .space = XENMAPSPACE_gmfn, .idx = gfn, .gpfn = to };

    return answer(memory_op(XENMEM_add_to_physmap, &argument, sizeof(argument)));
}

static int unmap(uint16_t domain, uint64_t gfn)
{
    struct xen_remove_from_physmap argument = { .domid = domain, .gpfn = gfn };

    return answer(memory_op(XENMEM_remove_from_physmap, &argument, sizeof(argument)));
}

static int permit(uint16_t domain, uint64_t mfn, uint64_t nr)
{
    struct xen_domctl call = {
        .cmd = XEN_DOMCTL_iomem_permission,
        .domain = domain,
        .u.iomem = { .first_mfn = mfn, .nr_mfns = nr, .allow_access = 1 },
    };

    return answer(domctl(&call));
}

static int map_io(uint16_t domain, uint64_t gfn, uint64_t mfn)
{
    struct xen_domctl call = {
        .cmd = XEN_DOMCTL_memory_mapping,
        .domain = domain,
        .u.mapping = { .first_gfn = gfn, .first_mfn = mfn, .nr_mfns = 1, .add_mapping = 1 },
    };

    return answer(domctl(&call));
}

static int log_dirty(uint16_t domain)
{
    struct xen_domctl call = {
        .cmd = XEN_DOMCTL_shadow_op,
        .domain = domain,
        .u.shadow = { .op = XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY },
    };

    return answer(domctl(&call));
}

static int foreign(uint16_t domain, uint64_t gfn)
{
    int error = 0;
    void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, privcmd, 0);
    struct privcmd_mmapbatch_v2 batch = { 1, domain, (uintptr_t)at, &gfn, &error };

    if (at == MAP_FAILED)
        return answer(-errno);
    if (ioctl(privcmd, IOCTL_PRIVCMD_MMAPBATCH_V2, &batch) < 0)
        return answer(-errno);

    return answer(error);
}

static int grant(uint16_t domain, uint64_t ref, uint64_t gfn, uint16_t to)
{
    volatile struct grant_entry *table = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, privcmd, 0);
    struct privcmd_mmap_resource resource = { .dom = domain, .type = 1, .num = 1, .addr = (uintptr_t)table };

    if (ref >= PAGE / sizeof(*table))
        return answer(-EINVAL);
    if (table == MAP_FAILED || ioctl(privcmd, IOCTL_PRIVCMD_MMAP_RESOURCE, &resource) < 0)
        return answer(-errno);
    table[ref].frame = (uint32_t)gfn;
    table[ref].domid = to;
    __sync_synchronize();
    table[ref].flags = GTF_permit_access;

    return answer(0);
}

static int hold(uint16_t domain, uint32_t ref)
{
    struct gntdev_map_grant_ref map = { .count = 1, .refs = { { domain, ref } } };
    int gntdev = open("/dev/xen/gntdev", O_RDWR | O_CLOEXEC);

    if (gntdev < 0 || ioctl(gntdev, IOCTL_GNTDEV_MAP_GRANT_REF, &map) < 0)
        return answer(-errno);
    if (mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, gntdev, (off_t)map.index) == MAP_FAILED)
        return answer(-errno);
    answer(0);
    fflush(stdout);
    for (;;)
        pause();
}

static int abi(void)
{
    long abi = advertised(PMEM_NODE);

    if (abi < 0)
        printf("none: %s\n", strerrorname_np((int)-abi));
    else
        printf("%ld\n", abi);

    return 0;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    uint16_t domain = argc > 2 ? (uint16_t)strtoul(argv[2], NULL, 10) : 0;
    uint64_t n[3] = { 0 };
    int count = argc - 3, i;

    for (i = 0; i < count && i < 3; i++)
        n[i] = strtoull(argv[3 + i], NULL, 16);

    if (!open_hypercalls())
        return 1;
    if (!strcmp(command, "abi") && argc == 2)
        return abi();
    if (!strcmp(command, "add") && count == 3)
        return pmem(PMEM_ADD, domain, n[0], n[1], n[2]);
    if (!strcmp(command, "remove") && count == 2)
        return pmem(PMEM_REMOVE, domain, 0, n[0], n[1]);
    if (!strcmp(command, "get") && count == 0)
        return pmem(PMEM_GET, domain, 0, 0, 0);
    if (!strcmp(command, "permit") && count == 2)
        return permit(domain, n[0], n[1]);
    if (!strcmp(command, "map-io") && count == 2)
        return map_io(domain, n[0], n[1]);
    if (!strcmp(command, "log-dirty") && count == 0)
        return log_dirty(domain);
    if (!strcmp(command, "decrease") && count == 1)
        return reservation(XENMEM_decrease_reservation, domain, n[0], 0);
    if (!strcmp(command, "populate") && count == 1)
        return reservation(XENMEM_populate_physmap, domain, n[0], 0);
    if (!strcmp(command, "page-on-demand") && count == 1)
        return reservation(XENMEM_populate_physmap, domain, n[0], XENMEMF_populate_on_demand);
    if (!strcmp(command, "exchange") && count == 1)
        return exchange(domain, n[0]);
    if (!strcmp(command, "move") && count == 2)
        return move(domain, n[0], n[1]);
    if (!strcmp(command, "unmap") && count == 1)
        return unmap(domain, n[0]);
    if (!strcmp(command, "foreign") && count == 1)
        return foreign(domain, n[0]);
    if (!strcmp(command, "grant") && count == 3)
        return grant(domain, n[0], n[1], (uint16_t)strtoul(argv[5], NULL, 10));
    if (!strcmp(command, "hold") && count == 1)
        return hold(domain, (uint32_t)n[0]);
    fprintf(stderr, "usage: see the head of pmemguest.c\n");
    return 2;
}
