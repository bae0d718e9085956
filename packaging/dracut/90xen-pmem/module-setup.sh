#!/bin/bash
# Puts the early report into the initramfs: see xen-pmem-report(8).

check() {
    require_binaries xen-pmem-report timeout tr || return 1
    return 0
}

depends() {
    return 0
}

installkernel() {
    instmods nfit xen-privcmd
}

install() {
    inst_multiple xen-pmem-report timeout tr cat ls
    inst_script /usr/lib/xen-pmem/xen-pmem-early /usr/lib/xen-pmem/xen-pmem-early
    # Before udev loads drivers: nothing has to be held back.
    inst_hook pre-udev 20 "$moddir/xen-pmem.sh"
}
