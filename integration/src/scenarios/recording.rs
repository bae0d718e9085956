//! Trees of sysfs as machines have them, kept for tests that start no machine.

use super::Run;
use crate::vm::Vm;
use anyhow::Result;
use serde_json::Value;

/// Records the part of sysfs that a scan looks at: `F path content` for each attribute, `L path target` for each link, tabs between.
/// Line feeds in an attribute are spaces.
const RECORD: &str = r#"
tab=$(printf '\t')
attributes() {
    for file in "$1"/*; do
        [ -f "$file" ] && [ ! -L "$file" ] || continue
        case ${file##*/} in uevent | autosuspend* | wait_probe | deep_flush | flush_* | trigger) continue ;; esac
        text=$(cat "$file" 2>/dev/null | tr '\n' ' ' | sed 's/ *$//') || continue
        printf 'F\t%s\t%s\n' "${file#/sys/}" "$text"
    done
    if [ -L "$1/driver" ]; then printf 'L\t%s\t%s\n' "${1#/sys/}/driver" "$(readlink -f "$1/driver" | sed 's,^/sys/,,')"; fi
}
link() { printf 'L\t%s\t%s\n' "${1#/sys/}" "$(readlink -f "$1" | sed 's,^/sys/,,')"; }
for device in /sys/bus/nd/devices/*; do
    link "$device"
    attributes "$(readlink -f "$device")"
done
for disk in /sys/class/block/pmem*; do
    [ -e "$disk" ] || continue
    real=$(readlink -f "$disk")
    link "$disk"
    for attribute in size dev partition start queue/logical_block_size; do
        [ -f "$real/$attribute" ] && printf 'F\t%s\t%s\n' "${real#/sys/}/$attribute" "$(cat "$real/$attribute")"
    done
    printf 'L\tdev/block/%s\t%s\n' "$(cat "$real/dev")" "${real#/sys/}"
done
for dax in /sys/bus/dax/devices/*; do
    [ -e "$dax" ] || continue
    real=$(readlink -f "$dax")
    printf 'F\t%s\t%s\n' "${real#/sys/}/size" "$(cat "$real/size")"
done
true
"#;

/// Writes sysfs as it is, and the scan of it, to the scenario's folder, if that is kept: `cargo xtask fixtures` makes test fixtures of
/// them.
pub(super) fn record(run: &Run<'_>, vm: &mut Vm, name: &str, scan: &Value) -> Result<()> {
    if !run.manifest.keep {
        return Ok(());
    }
    let folder = run.folder.join("recorded");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{name}.tree")), vm.script(RECORD)?)?;
    std::fs::write(folder.join(format!("{name}.json")), format!("{scan:#}\n"))?;
    Ok(())
}
