/* SPDX-License-Identifier: MIT */
/*
 * Reporting host persistent memory to Xen: the interface for user space.
 *
 * Self-contained: nothing of Xen's own headers is needed.  docs/hypercall.md
 * is the specification.
 *
 * First read XEN_PMEM_ABI_NODE, by HYPERVISOR_hypfs_op: an unsigned integer.  If
 * it is there and says XENPF_PMEM_ABI, this hypervisor has the operations, with
 * these numbers and this layout.  Otherwise don't send them: the numbers may mean
 * something else.
 *
 * Then issue HYPERVISOR_platform_op with a pointer to struct xen_pmem_op, which
 * has the size and layout of Xen's struct xen_platform_op.  The layout is the same
 * for 32-bit and 64-bit callers.
 */
#ifndef XEN_PMEM_H
#define XEN_PMEM_H

#include <stdint.h>

/* The hypercall, and the version of its interface (xen/include/public). */
#define XEN_PMEM_HYPERVISOR_platform_op 7
#ifndef XENPF_INTERFACE_VERSION
#define XENPF_INTERFACE_VERSION 0x03000001
#endif

/* Where Xen says which version of the operations it has, and which one this is. */
#define XEN_PMEM_ABI_NODE "/pmem/abi"
#define XENPF_PMEM_ABI 1

/* Operations. */
#define XENPF_pmem_add 67 /* Report a range to Xen. */
#define XENPF_pmem_get 68 /* Retrieve range number @index. */

/* Check everything, fill @frames_needed, and leave it at that (add only). */
#define XENPF_PMEM_DRY_RUN (1U << 0)

/*
 * All ranges are of machine frame numbers (system physical address / 4096), the
 * end not being included.  All padding, and what isn't IN, must be zero.
 */
struct xen_pmem_region {
    uint32_t flags;          /* IN: XENPF_PMEM_*                              */
    uint32_t index;          /* add: OUT, get: IN: number of the range        */
    uint64_t range_start;    /* add: IN, get: OUT: the range reported         */
    uint64_t range_end;
    uint64_t reserved_start; /* add: IN, get: OUT: what of it is Xen's; to be */
    uint64_t reserved_end;   /* multiples of 512 frames                       */
    uint64_t frames_needed;  /* OUT: reserved frames needed                   */
    uint64_t frames_used;    /* OUT: reserved frames in use by Xen            */
    uint32_t nr_regions;     /* OUT: number of ranges reported so far         */
    uint32_t pad[17];
};

struct xen_pmem_op {
    uint32_t cmd;               /* XENPF_pmem_*            */
    uint32_t interface_version; /* XENPF_INTERFACE_VERSION */
    union {
        struct xen_pmem_region region;
        uint8_t pad[128];
    } u;
};

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct xen_pmem_region) == 128, "size of a region");
_Static_assert(sizeof(struct xen_pmem_op) == 136, "size of an operation");
#endif

#endif /* XEN_PMEM_H */
