//! hosts.toml as a given containerd reads it.

use toml_edit::{Document, Item, Table, TableLike};

use super::{
    fields::KEYS,
    model::{Fields, Host, HostsToml},
    reader::{ParseError, Reader},
    restrict::accepts_file_without_hosts,
};
use crate::containerd::Version;

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

impl Reader<'_> {
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
