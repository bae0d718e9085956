/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A PVH guest that does nothing but use persistent memory, without paging: it is
 * up in no time, even when the processor is emulated. Build it with:
 * gcc -m32 -ffreestanding -nostdlib -static -no-pie -Wl,-Ttext-segment=0x200000,-e,start pvh.c
 *
 * Its first page of persistent memory is a mailbox. The host sees it in the
 * device's backing file, and so gives orders and looks at the results.
 */
typedef unsigned int u32;

/* Where the test has the hypervisor put the memory. */
#define PMEM 0x40000000u
/* What is filled and checked begins behind the mailbox. */
#define DATA (PMEM + 0x1000)
#define WORDS (0x100000u / sizeof(u32))

enum { FILL = 1, CHECK, STOP };

struct mailbox {
    u32 order;    /* by the host: one of the above */
    u32 argument; /* by the host: seed of the data; why to stop */
    u32 request;  /* by the host, last: a number that is not the previous one */
    u32 reply;    /* by the guest, last: the number of the request that is done */
    u32 result;   /* by the guest */
    u32 beat;     /* by the guest: counts as long as it runs */
};

/* Xen: include/public/{elfnote,xen,sched}.h, include/public/arch-x86/cpuid.h */
asm(".pushsection .note.Xen, \"a\", @note\n"
    ".balign 4\n"
    ".long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
    ".asciz \"Xen\"\n"
    ".long start\n"
    ".popsection\n"
    ".globl start\n"
    "start: mov $stack_end, %esp\n"
    "call run\n"
    "1: hlt\n"
    "jmp 1b\n");
#define XEN_CPUID_FIRST_LEAF 0x40000000u
#define HYPERVISOR_sched_op 29
#define SCHEDOP_yield 0
#define SCHEDOP_shutdown 2

unsigned char stack[4096] __attribute__((aligned(16)));
asm(".globl stack_end\n.set stack_end, stack + 4096\n");
static unsigned char hypercalls[4096] __attribute__((aligned(4096)));

static void cpuid(u32 leaf, u32 *a, u32 *b)
{
    u32 c = 0, d;

    asm volatile("cpuid" : "=a"(*a), "=b"(*b), "+c"(c), "=d"(d) : "0"(leaf));
}

static void open_hypercalls(void)
{
    u32 pages, msr;

    cpuid(XEN_CPUID_FIRST_LEAF + 2, &pages, &msr);
    asm volatile("wrmsr" : : "c"(msr), "a"(hypercalls), "d"(0) : "memory");
}

static void sched_op(u32 op, u32 argument)
{
    u32 result;

    asm volatile("call *%[at]"
                 : "=a"(result), "+b"(op), "+c"(argument)
                 : [at] "D"(hypercalls + HYPERVISOR_sched_op * 32)
                 : "memory");
}

/* A sequence that depends on the seed in each of its words (Numerical Recipes' generator). */
static u32 next(u32 word)
{
    return word * 1664525 + 1013904223;
}

static u32 fill(u32 seed)
{
    volatile u32 *data = (u32 *)DATA;
    u32 i;

    for (i = 0; i < WORDS; i++)
        data[i] = seed = next(seed);
    return 0;
}

/* How many words differ. */
static u32 check(u32 seed)
{
    volatile u32 *data = (u32 *)DATA;
    u32 i, differ = 0;

    for (i = 0; i < WORDS; i++) {
        seed = next(seed);
        differ += data[i] != seed;
    }
    return differ;
}

void run(void)
{
    volatile struct mailbox *mailbox = (struct mailbox *)PMEM;
    u32 done = mailbox->reply, reason;

    open_hypercalls();
    for (;;) {
        mailbox->beat++;
        if (mailbox->request == done) {
            sched_op(SCHEDOP_yield, 0);
            continue;
        }
        done = mailbox->request;
        switch (mailbox->order) {
        case FILL:
            mailbox->result = fill(mailbox->argument);
            break;
        case CHECK:
            mailbox->result = check(mailbox->argument);
            break;
        case STOP:
            reason = mailbox->argument;
            mailbox->reply = done;
            sched_op(SCHEDOP_shutdown, (u32)&reason);
            break;
        default:
            mailbox->result = ~0u;
        }
        mailbox->reply = done;
    }
}
