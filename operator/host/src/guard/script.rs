//! The texts of the guard: a script of plain `sh` and the unit that runs it at boot.
//!
//! The script uses `cat`, `cmp`, `mv`, `rm`, `sync` and `systemctl` alone and is tested under dash and busybox.

use std::{collections::BTreeSet, path::Path};

use super::{
    paths::{FilePaths, GuardPaths},
    subject::{GuardedFile, Subject},
};

/// The script, with every path and name written into it.
pub(super) fn script(paths: &GuardPaths, subject: &Subject) -> String {
    let GuardPaths { armed, fired, .. } = paths;
    let Subject { unit, files } = subject;
    let names: Vec<String> = files.iter().map(|guarded| comment(&guarded.file.to_string_lossy())).collect();
    let files_back: String = files.iter().map(|guarded| put_back(paths, guarded)).collect();
    // A restart reads the unit from systemd's memory.
    let reload = if files.iter().any(|guarded| guarded.is_drop_in) { "\n  systemctl daemon-reload" } else { "" };
    // At boot systemd has read the drop-in before this runs.
    let reload_at_boot = if reload.is_empty() {
        ""
    } else {
        "if [ \"$1\" = boot ] && [ \"$reload\" = yes ]; then\n  systemctl daemon-reload || status=1\nfi\n"
    };
    format!(
        r##"#!/bin/sh
# Written by registry-mirror-operator while it restarts {unit_plain}, and removed when that is done.
# If it is not done by a deadline, or the host boots meanwhile, this puts {names} back.
# Usage: guard.sh boot | guard.sh deadline
set -u
armed={armed}
fired={fired}
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
restart=no
reload=no
{files_back}
{reload_at_boot}if [ "$1" = deadline ] && [ "$restart" = yes ]; then{reload}
  systemctl reset-failed "$unit"
  systemctl restart "$unit" || status=1
fi
exit "$status"
"##,
        unit_plain = comment(unit),
        names = names.join(" and "),
        armed = quoted(armed),
        fired = quoted(fired),
        unit = quoted(Path::new(unit)),
    )
}

/// The part that puts one file back.
fn put_back(paths: &GuardPaths, guarded: &GuardedFile) -> String {
    let GuardedFile { file, is_drop_in, existed, removed } = guarded;
    let FilePaths { written, previous } = paths.of(guarded);
    let is_new = if *removed { r#"[ ! -e "$file" ]"# } else { r#"same "$file" "$written""# };
    let never_changed = if *existed { r#"same "$file" "$previous""# } else { r#"[ ! -e "$file" ]"# };
    let back = if *existed { r#"mv -f "$previous" "$file""# } else { r#"rm -f "$file" && rm -f "$previous""# };
    let reload = if *is_drop_in { "\n  reload=yes" } else { "" };
    format!(
        r##"
file={file}
written={written}
previous={previous}
if [ ! -e "$previous" ]; then
  restart=yes # It was put back already, and containerd has not been restarted since.
elif {is_new}; then
  {back} || status=1
  sync
  restart=yes{reload}
elif {never_changed}; then
  : # The new file never came into place.
else
  restart=yes # Another program wrote the file meanwhile: it stays, and containerd must run what it says.
fi
"##,
        file = quoted(file),
        written = quoted(&written),
        previous = quoted(&previous),
    )
}

/// The unit that runs the script before containerd in the next boot, if the guard is still armed then.
///
/// A link in containerd's own `.wants` pulls it in, not one in a target's: so it runs before whatever starts containerd
/// first, however early in the boot. systemd reads both at the next boot; no daemon-reload is needed, and none is made.
/// It has no default dependencies, because some hosts start containerd before `basic.target`; the directories that it
/// needs are named instead.
pub(super) fn boot_unit(paths: &GuardPaths, subject: &Subject) -> String {
    let Subject { unit, files } = subject;
    let GuardPaths { directory, armed, fired, script, .. } = paths;
    let parent = |guarded: &GuardedFile| in_unit(guarded.file.parent().unwrap_or(Path::new("/")));
    let directories: BTreeSet<String> = files.iter().map(parent).collect();
    let directories: Vec<String> = directories.into_iter().collect();
    format!(
        "\
# Written by registry-mirror-operator while it restarts {unit}, and removed when that is done.
[Unit]
Description=Put containerd's configuration back if registry-mirror-operator was cut short
DefaultDependencies=no
Conflicts=shutdown.target
Before={unit} shutdown.target
After=systemd-remount-fs.service
RequiresMountsFor={directory} {directories}
ConditionPathExists=|{armed}
ConditionPathExists=|{fired}

[Service]
Type=oneshot
ExecStart=/bin/sh {script} boot
",
        directory = in_unit(directory),
        directories = directories.join(" "),
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
