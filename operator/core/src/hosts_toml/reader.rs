//! The values of a hosts.toml, each as a given containerd takes it.

use registry_mirror_crds::Capability;
use thiserror::Error;
use toml_edit::{Item, Value};

use super::model::{Capabilities, ClientPair};
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

pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) version: Version,
}

impl Reader<'_> {
    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    pub(super) fn error(&self, item: &Item, what: String) -> ParseError {
        ParseError { line: item.span().map(|span| self.line_at(span.start)), what, version: self.version }
    }

    pub(super) fn wrong_type(&self, item: &Item, key: &str, expected: &str) -> ParseError {
        self.error(item, format!("`{key}` is {}, it must be {expected}", item.type_name()))
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

    pub(super) fn headers(&self, item: &Item) -> Result<Vec<Header>, ParseError> {
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
