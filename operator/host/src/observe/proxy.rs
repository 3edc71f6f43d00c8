//! What a host says about containerd's forward proxy: the running daemon, the operator's drop-in, and files of others.

use std::path::{Path, PathBuf};

use registry_mirror_core::{
    observed::{Supervisor, Writable},
    plan::proxy::{By, ObservedProxy, Setting},
    proxy::{DROP_IN_NAME, Environment, VARIABLES, drop_in_path},
};

use super::{
    Live,
    unit_files::{assignment, words},
    writable,
};
use crate::{
    files::{HostWriter, WriteScope},
    root::{FileError, HostRoot},
    state::STATE_DIR,
    systemd::UnitState,
};

/// Looks.
///
/// # Errors
/// A unit file or `/proc` cannot be read.
pub fn observe(root: &HostRoot, live: &Live) -> Result<ObservedProxy, FileError> {
    let Live { observed, unit, .. } = live;
    let file = match &observed.supervisor {
        Supervisor::Unit(unit) => Some(drop_in_path(&unit.name)),
        Supervisor::Embedded { .. } | Supervisor::Offline | Supervisor::Unknown(_) => None,
    };
    let writer = HostWriter::new(root.clone(), WriteScope::for_host([], Path::new(STATE_DIR)));
    Ok(ObservedProxy {
        distribution: observed.distribution.distribution,
        supervisor: observed.supervisor.clone(),
        drop_in: file.as_deref().map(|file| root.read(file)).transpose()?.flatten(),
        writable: file.as_deref().map_or(Writable::Yes, |file| writable(&writer, file)),
        running: live.process.map(|pid| environment_of(root, pid)).transpose()?.flatten(),
        elsewhere: unit.as_ref().map_or(Ok(Vec::new()), |unit| elsewhere(root, unit))?,
    })
}

/// The proxy variables of a process, by the host's number; `None` where it is gone.
///
/// # Errors
/// `/proc` cannot be read.
pub fn environment_of(root: &HostRoot, pid: u32) -> Result<Option<Environment>, FileError> {
    let environ = root.read(&PathBuf::from(format!("/proc/{pid}/environ")))?;
    Ok(environ.as_deref().map(Environment::of_process))
}

/// The operator's drop-ins on a host, whichever unit they are for.
///
/// # Errors
/// The directories cannot be listed.
pub fn drop_ins_of_ours(root: &HostRoot) -> Result<Vec<PathBuf>, FileError> {
    let mut ours = Vec::new();
    for path in root.glob(&format!("/etc/systemd/system/*.d/{DROP_IN_NAME}"))? {
        if root.read(&path)?.is_some_and(|content| registry_mirror_core::proxy::is_ours(&content)) {
            ours.push(path);
        }
    }
    Ok(ours)
}

fn elsewhere(root: &HostRoot, unit: &UnitState) -> Result<Vec<Setting>, FileError> {
    let UnitState { fragment, drop_ins, environment_files, .. } = unit;
    let mut settings = Vec::new();
    for path in fragment.iter().chain(drop_ins) {
        let name = path.file_name().unwrap_or_default();
        if name == DROP_IN_NAME {
            continue;
        }
        // Read after ours, whichever directory it is in (systemd.unit(5)).
        let by =
            if fragment.as_ref() != Some(path) && name > Path::new(DROP_IN_NAME) { By::Later } else { By::Earlier };
        let Some(content) = root.read(path)? else { continue };
        let text = String::from_utf8_lossy(&content).replace("\\\n", " ");
        for line in text.lines() {
            let Some(("Environment", value)) = line.split_once('=').map(|(key, value)| (key.trim(), value)) else {
                continue;
            };
            settings.extend(words(value).iter().filter_map(|word| setting(word, path, by)));
        }
    }
    for path in environment_files {
        // systemd takes patterns here too.
        for path in root.glob(&path.to_string_lossy())? {
            let Some(content) = root.read(&path)? else { continue };
            let text = String::from_utf8_lossy(&content).into_owned();
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
            settings.extend(lines.filter_map(|line| setting(&words(line).join(" "), &path, By::Later)));
        }
    }
    Ok(settings)
}

fn setting(word: &str, file: &Path, by: By) -> Option<Setting> {
    let (variable, value) = assignment(word)?;
    VARIABLES.contains(&variable.as_str()).then(|| Setting { file: file.to_owned(), variable, value, by })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn settings_of_others_are_found_wherever_they_stand() {
        let dir = tempfile::tempdir().expect("tempdir");
        let write = |path: &str, text: &str| {
            let file = dir.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(file.parent().expect("a directory")).expect("mkdir");
            fs::write(file, text).expect("write");
            PathBuf::from(path)
        };
        let unit = UnitState {
            fragment: Some(write("/usr/lib/systemd/system/containerd.service", "[Service]\nEnvironment=NO_PROXY=a\n")),
            drop_ins: vec![
                write(
                    "/etc/systemd/system/containerd.service.d/http-proxy.conf",
                    "[Service]\nEnvironment=\"HTTPS_PROXY=http://p:1\" \\\n  X=1\n",
                ),
                write(&drop_in_path("containerd.service").display().to_string(), "[Service]\nEnvironment=NO_PROXY=b\n"),
                write("/run/systemd/system/containerd.service.d/zzz.conf", "[Service]\nEnvironment=NO_PROXY=c\n"),
            ],
            environment_files: vec![
                write("/etc/default/containerd", "# HTTP_PROXY=no\nHTTP_PROXY='http://e:1'\n"),
                PathBuf::from("/etc/default/none"),
            ],
            ..crate::observe::tests::unit("/usr/bin/containerd")
        };
        let root = HostRoot::open(dir.path()).expect("root");
        let found: Vec<_> = elsewhere(&root, &unit)
            .expect("readable")
            .into_iter()
            .map(|Setting { file, variable, value, by }| {
                format!("{by:?} {variable}={value} {}", file.file_name().unwrap_or_default().to_string_lossy())
            })
            .collect();
        assert_eq!(
            found,
            [
                "Earlier NO_PROXY=a containerd.service",
                "Earlier HTTPS_PROXY=http://p:1 http-proxy.conf",
                "Later NO_PROXY=c zzz.conf",
                "Later HTTP_PROXY=http://e:1 containerd",
            ]
        );
    }
}
