//! hosts.toml as a given containerd reads it.

use registry_mirror_crds::Capability;
use thiserror::Error;
use toml_edit::{Document, Item, Table, TableLike, Value};

use super::{
    fields::{Fields, KEYS},
    model::{Capabilities, ClientPair, Host, HostsToml},
    restrict::accepts_file_without_hosts,
};
use crate::{bundle::Header, containerd::Version, sensitive::Sensitive};

/// A file that containerd ignores: it logs the reason and goes to the registry itself, without `server` or any host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{what}; containerd {version} ignores the whole file and goes to the registry itself", at(.line))]
pub struct ParseError {
    /// Counted from 1; `None` where it is the whole file.
    pub line: Option<usize>,
    /// What is wrong, without values of headers.
    pub what: String,
    /// Who reads it.
    pub version: Version,
}

fn at(line: &Option<usize>) -> String {
    line.map(|line| format!("line {line}: ")).unwrap_or_default()
}

/// Reads a file as this containerd does: hosts in the order in which they are asked, with what it does not see left out.
///
/// On 2.x a host exists where a table header names it (`getSortedHosts`): one that is written inline or with dotted keys
/// is not asked, and one whose `header` table stands apart from it is asked twice. On 1.x inline hosts come first, two
/// of them in an order that changes from pull to pull. Fields of a later release are ignored, as containerd ignores
/// them.
///
/// # Errors
/// [`ParseError`] for a file that this containerd ignores.
pub fn parse(text: &str, version: Version) -> Result<HostsToml, ParseError> {
    let reader = Reader { text, version };
    let document = Document::parse(text).map_err(|error| ParseError {
        line: error.span().map(|span| reader.line_at(span.start)),
        what: error.message().lines().collect::<Vec<_>>().join(", "),
        version,
    })?;
    let root = document.as_table();
    let hosts = match root.get("host") {
        Some(item) => reader.hosts(item)?,
        None if accepts_file_without_hosts(version) => Vec::new(),
        None => {
            let what = "there is no [host] table, which releases before 1.7.32 require".to_owned();
            return Err(ParseError { line: None, what, version });
        }
    };
    let server = match root.get("server") {
        Some(item) => Some(reader.string(item, "server")?).filter(|server| !server.is_empty()),
        None => None,
    };
    Ok(HostsToml { server, root: reader.fields(root)?, hosts })
}

/// Whether a file that [`parse`] accepts ends at the upstream for this containerd, be it named or not.
#[must_use]
pub fn has_upstream(text: &str, hosts: &HostsToml, version: Version) -> bool {
    !version.needs_server_for_upstream()
        || hosts.hosts.is_empty()
        || Document::parse(text).is_ok_and(|document| document.as_table().contains_key("server"))
}

pub(super) struct Reader<'a> {
    text: &'a str,
    pub(super) version: Version,
}

impl Reader<'_> {
    fn line_at(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    pub(super) fn error(&self, item: &Item, what: String) -> ParseError {
        ParseError { line: item.span().map(|span| self.line_at(span.start)), what, version: self.version }
    }

    fn wrong_type(&self, item: &Item, key: &str, expected: &str) -> ParseError {
        self.error(item, format!("`{key}` is {}, it must be {expected}", item.type_name()))
    }

    fn hosts(&self, item: &Item) -> Result<Vec<Host>, ParseError> {
        let Some(table) = item.as_table_like() else { return Err(self.wrong_type(item, "host", "a table")) };
        for (url, host) in table.iter() {
            if !host.is_table_like() {
                return Err(self.wrong_type(host, &format!("host.\"{url}\""), "a table"));
            }
        }
        let order: Vec<&str> = if self.version.is_v1() {
            self.refuse_bracketed_headers(table)?;
            // go-toml 1 forgets the line of an inline table: such hosts come first.
            let (inline, others): (Vec<_>, Vec<_>) = table.iter().partition(|(_, host)| host.is_inline_table());
            inline.into_iter().chain(others).map(|(url, _)| url).collect()
        } else {
            item.as_table().map(hosts_by_header).unwrap_or_default()
        };
        let mut hosts = Vec::with_capacity(order.len());
        for url in order {
            let fields = match table.get(url).and_then(Item::as_table_like) {
                Some(host) => self.fields(host)?,
                None => Fields::default(),
            };
            hosts.push(Host { url: url.to_owned(), fields });
        }
        // What is not asked is decoded all the same, and can spoil the file.
        for (_, host) in table.iter() {
            if let Some(host) = host.as_table_like() {
                self.fields(host)?;
            }
        }
        Ok(hosts)
    }

    /// go-toml 1 takes the first `]` of a table header for its end.
    fn refuse_bracketed_headers(&self, hosts: &dyn TableLike) -> Result<(), ParseError> {
        for (url, host) in hosts.iter() {
            let written_as_header = host.as_table().is_some_and(|table| !table.is_dotted());
            if written_as_header && url.contains(['[', ']']) {
                return Err(self.error(
                    host,
                    format!("containerd 1.x cannot read brackets in a table header: write `host.\"{url}\".capabilities = …` above all tables"),
                ));
            }
        }
        Ok(())
    }

    fn fields(&self, table: &dyn TableLike) -> Result<Fields, ParseError> {
        let mut fields = Fields::default();
        for (name, item) in table.iter() {
            if name == "header" {
                fields.headers = self.headers(item)?;
            } else if let Some(key) = KEYS.iter().find(|key| key.name == name) {
                (key.read)(&mut fields, self, item)?;
            }
        }
        Ok(fields)
    }

    pub(super) fn capabilities(&self, item: &Item) -> Result<Capabilities, ParseError> {
        let mut listed = Vec::new();
        for name in self.strings(item, "capabilities", "an array of strings")? {
            listed.push(match Capability::ALL.into_iter().find(|known| known.name() == name.to_lowercase()) {
                Some(Capability::Referrers) if !self.version.knows_referrers() => {
                    return Err(self.error(item, "the capability `referrers` is known from 2.2.0 on".to_owned()));
                }
                Some(capability) => capability,
                None => {
                    let what = format!("`{name}` is no capability, write pull, resolve, push or referrers");
                    return Err(self.error(item, what));
                }
            });
        }
        // an empty list is everything
        Ok(Capabilities::only(listed).unwrap_or_default())
    }

    pub(super) fn client(&self, item: &Item) -> Result<Vec<ClientPair>, ParseError> {
        let expected = "a path, an array of paths or an array of [certificate, key]";
        if let Some(path) = item.as_str() {
            return Ok(vec![ClientPair { certificate: path.to_owned(), key: None }]);
        }
        let Some(array) = item.as_array() else { return Err(self.wrong_type(item, "client", expected)) };
        let mut pairs = Vec::with_capacity(array.len());
        for value in array {
            pairs.push(match value {
                Value::String(path) => ClientPair { certificate: path.value().clone(), key: None },
                Value::Array(pair) => match pair.iter().map(Value::as_str).collect::<Vec<_>>().as_slice() {
                    [Some(certificate), Some(key)] => ClientPair {
                        certificate: (*certificate).to_owned(),
                        // the same file twice is one file that holds both
                        key: (key != certificate && !key.is_empty()).then(|| (*key).to_owned()),
                    },
                    _ => {
                        let what = "`client` holds an array that is no [certificate, key]".to_owned();
                        return Err(self.error(item, what));
                    }
                },
                _ => return Err(self.wrong_type(item, "client", expected)),
            });
        }
        if self.version.is_v1() && array.iter().any(Value::is_str) && array.iter().any(Value::is_array) {
            let what = "`client` mixes paths and pairs, which containerd 1.x refuses".to_owned();
            return Err(self.error(item, what));
        }
        Ok(pairs)
    }

    fn headers(&self, item: &Item) -> Result<Vec<Header>, ParseError> {
        let Some(table) = item.as_table_like() else { return Err(self.wrong_type(item, "header", "a table")) };
        let mut headers = Vec::new();
        for (name, value) in table.iter() {
            let values = match value.as_str() {
                Some(value) => vec![value.to_owned()],
                None => self.strings(value, &format!("header.{name}"), "a string or an array of strings")?,
            };
            headers.push(Header { name: name.to_owned(), values: values.into_iter().map(Sensitive::new).collect() });
        }
        Ok(headers)
    }

    pub(super) fn paths(&self, item: &Item, key: &str) -> Result<Vec<String>, ParseError> {
        match item.as_str() {
            Some(path) => Ok(vec![path.to_owned()]),
            None => self.strings(item, key, "a path or an array of paths"),
        }
    }

    fn strings(&self, item: &Item, key: &str, expected: &str) -> Result<Vec<String>, ParseError> {
        let Some(array) = item.as_array() else { return Err(self.wrong_type(item, key, expected)) };
        let strings: Option<Vec<String>> = array.iter().map(|value| value.as_str().map(str::to_owned)).collect();
        strings.ok_or_else(|| self.error(item, format!("`{key}` must be {expected}")))
    }

    pub(super) fn string(&self, item: &Item, key: &str) -> Result<String, ParseError> {
        item.as_str().map(str::to_owned).ok_or_else(|| self.wrong_type(item, key, "a string"))
    }

    pub(super) fn boolean(&self, item: &Item, key: &str) -> Result<bool, ParseError> {
        item.as_bool().ok_or_else(|| self.wrong_type(item, key, "true or false"))
    }
}

/// The hosts of 2.x: one for each table header `[host.X…]` in the file whose X is not that of the header before.
fn hosts_by_header(hosts: &Table) -> Vec<&str> {
    let mut headers: Vec<(isize, &str)> = Vec::new();
    for (url, item) in hosts {
        let Some(table) = item.as_table() else { continue };
        collect_headers(url, table, &mut headers);
    }
    headers.sort_by_key(|(position, _)| *position);
    let mut order: Vec<&str> = headers.into_iter().map(|(_, url)| url).collect();
    order.dedup();
    order
}

fn collect_headers<'a>(url: &'a str, table: &Table, headers: &mut Vec<(isize, &'a str)>) {
    if !table.is_implicit() && !table.is_dotted() {
        headers.push((table.position().unwrap_or(isize::MAX), url));
    }
    for (_, item) in table {
        if let Some(inner) = item.as_table() {
            collect_headers(url, inner, headers);
        }
    }
}
