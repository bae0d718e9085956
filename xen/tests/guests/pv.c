/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PV guest that maps a page that it was granted, marks it, and keeps it until
 * it is destroyed. Its command line has the granting domain and the reference,
 * both decimal. Build it with:
 * gcc -ffreestanding -nostdlib -static -no-pie -mno-red-zone -Wl,-Ttext-segment=0x200000,-e,start pv.c
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

/* Xen: include/public/{elfnote,xen,grant_table,sched}.h */
#define NOTE(type, value)                   \
    ".balign 4\n"                           \
    ".long 4, 2f - 1f, " #type "\n"         \
    ".asciz \"Xen\"\n"                      \
    "1: " value "\n"                        \
    "2: .balign 4\n"
asm(".pushsection .note.Xen, \"a\", @note\n"
    NOTE(6, ".asciz \"pmemguest\"")     /* XEN_ELFNOTE_GUEST_OS */
    NOTE(5, ".asciz \"xen-3.0\"")       /* XEN_ELFNOTE_XEN_VERSION */
    NOTE(8, ".asciz \"generic\"")       /* XEN_ELFNOTE_LOADER */
    NOTE(9, ".asciz \"yes\"")           /* XEN_ELFNOTE_PAE_MODE */
    NOTE(3, ".quad 0")                  /* XEN_ELFNOTE_VIRT_BASE */
    NOTE(4, ".quad 0")                  /* XEN_ELFNOTE_PADDR_OFFSET */
    NOTE(1, ".quad start")              /* XEN_ELFNOTE_ENTRY */
    NOTE(2, ".quad hypercalls")         /* XEN_ELFNOTE_HYPERCALL_PAGE */
    ".popsection\n"
    ".globl start\n"
    "start: lea stack_end(%rip), %rsp\n"
    "mov %rsi, %rdi\n"
    "call run\n"
    "1: jmp 1b\n"
    ".balign 4096\n"
    ".globl hypercalls\n"
    "hypercalls: .skip 4096\n");
u8 stack[4096] __attribute__((aligned(16)));
asm(".globl stack_end\n.set stack_end, stack + 4096\n");
extern u8 hypercalls[];

#define HYPERVISOR_grant_table_op 20
#define HYPERVISOR_sched_op 29
#define GNTTABOP_map_grant_ref 0
#define GNTMAP_host_map 2
#define SCHEDOP_block 1
#define SCHEDOP_shutdown 2
#define SHUTDOWN_crash 3

struct start_info {
    u8 magic[32];
    u64 nr_pages, shared_info;
    u32 flags;
    u64 store_mfn;
    u32 store_evtchn;
    u64 console_mfn;
    u32 console_evtchn;
    u64 pt_base, nr_pt_frames, mfn_list, mod_start, mod_len;
    char cmd_line[1024];
};

struct gnttab_map_grant_ref {
    u64 host_addr;
    u32 flags, ref;
    u16 dom;
    short status;
    u32 handle;
    u64 dev_bus_addr;
};

/* What the test finds in the page, at 128 bytes. */
#define MARK 0x65766967u
static volatile u32 window[1024] __attribute__((aligned(4096)));

static long hypercall(u32 number, u64 a, void *b, u64 c)
{
    long result;

    asm volatile("call *%[at]"
                 : "=a"(result), "+D"(a), "+S"(b), "+d"(c)
                 : [at] "r"(hypercalls + number * 32)
                 : "memory", "r10", "r11", "rcx", "r8");
    return result;
}

static const char *number(const char *at, u32 *value)
{
    for (*value = 0; *at >= '0' && *at <= '9'; at++)
        *value = *value * 10 + (u32)(*at - '0');
    return *at ? at + 1 : at;
}

void run(const struct start_info *start)
{
    u32 domain, ref, reason = SHUTDOWN_crash;
    struct gnttab_map_grant_ref map = { .host_addr = (u64)window, .flags = GNTMAP_host_map };

    number(number(start->cmd_line, &domain), &ref);
    map.dom = (u16)domain;
    map.ref = ref;
    if (hypercall(HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, &map, 1) || map.status) {
        hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, &reason, 0);
    }
    window[32] = MARK;
    for (;;)
        hypercall(HYPERVISOR_sched_op, SCHEDOP_block, 0, 0);
}
