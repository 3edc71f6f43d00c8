//! The texts of the guard: a script of plain `sh` and the unit that runs it at boot.
//!
//! The script uses `cat`, `cmp`, `mv`, `rm`, `sync` and `systemctl` alone and is tested under dash and busybox.

use std::path::Path;

use super::paths::GuardPaths;

/// The unit that the script runs in at boot.
pub(super) const BOOT_UNIT: &str = "registry-mirror-guard.service";

/// The script, with every path and name written into it.
pub(super) fn script(paths: &GuardPaths, unit: &str, config_file: &Path, had_config: bool) -> String {
    let GuardPaths { armed, fired, written, previous, .. } = paths;
    let never_renamed = if had_config { r#"same "$config" "$previous""# } else { r#"[ ! -e "$config" ]"# };
    let put_back =
        if had_config { r#"mv -f "$previous" "$config""# } else { r#"rm -f "$config" && rm -f "$previous""# };
    format!(
        r##"#!/bin/sh
# Written by registry-mirror-operator while it restarts {unit_plain}, and removed when that is done.
# If it is not done by a deadline, or the host boots meanwhile, this puts {config_plain} back.
# Usage: guard.sh boot | guard.sh deadline
set -u
armed={armed}
fired={fired}
config={config}
written={written}
previous={previous}
unit={unit}

same() {{
  [ -f "$1" ] && [ -f "$2" ] || return 1
  if command -v cmp >/dev/null 2>&1; then
    cmp -s "$1" "$2"
  else
    [ "$(cat "$1" && echo .)" = "$(cat "$2" && echo .)" ]
  fi
}}

# Within the boot that armed the guard only the deadline may act: containerd is being restarted on purpose.
if [ "$1" = boot ] && [ -f "$armed" ] && [ "$(cat "$armed")" = "$(cat /proc/sys/kernel/random/boot_id)" ]; then
  exit 0
fi

# Whoever renames this file owns the outcome. `fired` may stand there from a run that was cut short.
mv "$armed" "$fired" 2>/dev/null
[ -f "$fired" ] || exit 0

status=0
restart=yes
if [ ! -e "$previous" ]; then
  : # It was put back already, and containerd has not been restarted since.
elif same "$config" "$written"; then
  {put_back} || status=1
  sync
elif {never_renamed}; then
  restart=no # The new file never came into place.
fi # Otherwise another program wrote the file meanwhile: it stays, and containerd must run what it says.

if [ "$1" = deadline ] && [ "$restart" = yes ]; then
  systemctl reset-failed "$unit"
  systemctl restart "$unit" || status=1
fi
exit "$status"
"##,
        unit_plain = comment(unit),
        config_plain = comment(&config_file.to_string_lossy()),
        armed = quoted(armed),
        fired = quoted(fired),
        config = quoted(config_file),
        written = quoted(written),
        previous = quoted(previous),
        unit = quoted(Path::new(unit)),
    )
}

/// The unit that runs the script before containerd in the next boot, if the guard is still armed then.
///
/// A link in containerd's own `.wants` pulls it in, not one in a target's: so it runs before whatever starts containerd
/// first, however early in the boot. systemd reads both at the next boot; no daemon-reload is needed, and none is made.
/// It has no default dependencies, because some hosts start containerd before `basic.target`; the directories that it
/// needs are named instead.
pub(super) fn boot_unit(paths: &GuardPaths, unit: &str, config_file: &Path) -> String {
    let GuardPaths { directory, armed, fired, script, .. } = paths;
    let config_directory = config_file.parent().unwrap_or(Path::new("/"));
    format!(
        "\
# Written by registry-mirror-operator while it restarts {unit}, and removed when that is done.
[Unit]
Description=Put containerd's configuration back if registry-mirror-operator was cut short
DefaultDependencies=no
Conflicts=shutdown.target
Before={unit} shutdown.target
After=systemd-remount-fs.service
RequiresMountsFor={directory} {config_directory}
ConditionPathExists=|{armed}
ConditionPathExists=|{fired}

[Service]
Type=oneshot
ExecStart=/bin/sh {script} boot
",
        directory = in_unit(directory),
        config_directory = in_unit(config_directory),
        armed = in_unit(armed),
        fired = in_unit(fired),
        script = in_unit(script),
    )
}

/// A path as one word of `sh`.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// Text in a comment: on one line.
fn comment(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// A path in a unit file, where `%` begins a specifier and spaces separate.
fn in_unit(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => text.push_str("%%"),
            '\\' => text.push_str(r"\\"),
            ' ' => text.push_str(r"\x20"),
            '"' => text.push_str(r"\x22"),
            other => text.push(other),
        }
    }
    text
}
