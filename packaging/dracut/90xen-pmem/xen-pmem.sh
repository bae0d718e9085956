#!/bin/sh
# Sourced by dracut before udev starts.

/usr/lib/xen-pmem/xen-pmem-early
