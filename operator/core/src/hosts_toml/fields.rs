//! How one host is asked: what the keys of its table say, and how each is read, restricted and written.

use registry_mirror_crds::Capability;
use toml_edit::Item;

use super::{
    duration::{format_go_duration, parse_go_duration},
    model::{Capabilities, Fields},
    omission::Omission,
    reader::{ParseError, Reader},
    text::{array, client_value, string},
};
use crate::containerd::Version;

/// A key of a host's table.
pub(super) struct Key {
    pub name: &'static str,
    pub read: fn(&mut Fields, &Reader<'_>, &Item) -> Result<(), ParseError>,
    /// Takes out of the fields what this release does not know, or does not do as meant for a host with this url.
    pub restrict: fn(&mut Fields, &str, Version) -> Option<Omission>,
    /// The value as TOML; `None` where the fields say nothing of it.
    pub write: fn(&Fields) -> Option<String>,
}

/// All keys but `header`, which is a table, in the order in which they are written.
pub(super) const KEYS: [Key; 6] = [
    Key {
        name: "capabilities",
        read: |fields, reader, item| reader.capabilities(item).map(|value| fields.capabilities = value),
        restrict: |fields, _, version| leave_out_referrers(fields, version),
        write: |fields| Some(array(fields.capabilities.listed()?.iter().map(|one| string(one.name())))),
    },
    Key {
        name: "ca",
        read: |fields, reader, item| reader.paths(item, "ca").map(|value| fields.ca = value),
        restrict: |_, _, _| None,
        write: |fields| (!fields.ca.is_empty()).then(|| array(fields.ca.iter().map(|path| string(path)))),
    },
    Key {
        name: "client",
        read: |fields, reader, item| reader.client(item).map(|value| fields.client = value),
        restrict: |_, _, _| None,
        write: |fields| (!fields.client.is_empty()).then(|| client_value(&fields.client)),
    },
    Key {
        name: "skip_verify",
        read: |fields, reader, item| reader.boolean(item, "skip_verify").map(|value| fields.skip_verify = Some(value)),
        restrict: |_, _, _| None,
        write: |fields| fields.skip_verify.map(|value| value.to_string()),
    },
    Key {
        name: "override_path",
        read: |fields, reader, item| reader.boolean(item, "override_path").map(|value| fields.override_path = value),
        restrict: |_, _, _| None,
        write: |fields| fields.override_path.then(|| "true".to_owned()),
    },
    Key {
        name: "dial_timeout",
        read: read_dial_timeout,
        restrict: leave_out_dial_timeout,
        write: |fields| fields.dial_timeout.map(|timeout| string(&format_go_duration(timeout))),
    },
];

/// An unknown capability spoils the whole file. Where no other is left, the fields stay as they are: an empty list is
/// everything.
fn leave_out_referrers(fields: &mut Fields, version: Version) -> Option<Omission> {
    let listed = fields.capabilities.listed().filter(|listed| listed.contains(&Capability::Referrers))?;
    if version.knows_referrers() {
        return None;
    }
    match Capabilities::only(listed.iter().copied().filter(|capability| *capability != Capability::Referrers)) {
        Some(capabilities) => {
            fields.capabilities = capabilities;
            Some(Omission::Referrers)
        }
        None => Some(Omission::Host),
    }
}

fn read_dial_timeout(fields: &mut Fields, reader: &Reader<'_>, item: &Item) -> Result<(), ParseError> {
    if !reader.version.knows_dial_timeout() {
        return Ok(());
    }
    let text = reader.string(item, "dial_timeout")?;
    if !text.is_empty() {
        let timeout = parse_go_duration(&text).map_err(|error| reader.error(item, error.to_string()))?;
        fields.dial_timeout = Some(timeout);
    }
    Ok(())
}

/// A `dial_timeout` counts as TLS configuration, which makes a plain http host be tried with HTTPS first. Read in
/// 2.0.14; gone in 2.1.9 and later, the releases between were not read.
fn leave_out_dial_timeout(fields: &mut Fields, url: &str, version: Version) -> Option<Omission> {
    fields.dial_timeout?;
    let what = if !version.knows_dial_timeout() {
        Omission::DialTimeout
    } else if version < Version::new(2, 1, 9) && url.starts_with("http://") {
        Omission::DialTimeoutOnHttp
    } else {
        return None;
    };
    fields.dial_timeout = None;
    Some(what)
}
