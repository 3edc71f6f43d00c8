//! Headers that containerd sends to a mirror.

use registry_mirror_crds as crds;

use super::{
    Compiler,
    references::{Lookup, RefKind},
    verdict::Unresolved,
};
use crate::{bundle::Header, sensitive::Sensitive};

/// The header that carries credentials. containerd forwards it to token servers in exactly this capitalisation only.
pub(super) const AUTHORIZATION: &str = "Authorization";

impl Compiler<'_> {
    pub(super) fn headers(&mut self, field: &str, headers: &[crds::Header], has_auth: bool) -> Option<Vec<Header>> {
        let mut compiled: Vec<Header> = Vec::with_capacity(headers.len());
        let before = (self.problems.len(), self.unresolved.len());
        for (i, header) in headers.iter().enumerate() {
            let field = format!("{field}.headers[{i}]");
            let crds::Header { name, values, value_from } = header;
            if !is_token(name) {
                self.refuse(
                    format!("{field}.name"),
                    format!(
                        "`{}` is no header name: write letters, digits and `-`, for example X-Tenant",
                        name.escape_default()
                    ),
                );
            }
            if name.eq_ignore_ascii_case(AUTHORIZATION) {
                if has_auth {
                    self.refuse(format!("{field}.name"), "is Authorization beside auth: write one of them");
                } else if name != AUTHORIZATION {
                    self.refuse(
                        format!("{field}.name"),
                        format!("`{name}` is not how containerd looks for credentials: write Authorization"),
                    );
                }
            }
            if headers.iter().take(i).any(|other| other.name.eq_ignore_ascii_case(name)) {
                self.refuse(
                    format!("{field}.name"),
                    format!("`{}` stands twice: write one header with several values", name.escape_default()),
                );
            }
            let values = match (values.is_empty(), value_from) {
                (true, None) => {
                    self.refuse(&field, "has no value: write values, or valueFrom with a Secret's name and key");
                    None
                }
                (false, Some(_)) => {
                    self.refuse(&field, "has values and valueFrom: write one of them");
                    None
                }
                (false, None) => {
                    if values.iter().any(|value| !is_value(value)) {
                        self.refuse(
                            format!("{field}.values"),
                            "holds a line break or control character, which would end the header: write it without",
                        );
                    }
                    Some(values.iter().cloned().map(Sensitive::new).collect())
                }
                (true, Some(key)) => {
                    let field = format!("{field}.valueFrom");
                    let value = self.header_value(&field, key);
                    self.resolve(value).map(|value| vec![Sensitive::new(value)])
                }
            };
            if let Some(values) = values {
                compiled.push(Header { name: name.clone(), values });
            }
        }
        (before == (self.problems.len(), self.unresolved.len())).then_some(compiled)
    }

    fn header_value(&self, field: &str, key: &crds::KeyRef) -> Result<String, Unresolved> {
        let crds::KeyRef { name, key } = key;
        let lookup = Lookup::new(self.references, self.namespace, field, RefKind::Secret, name)?;
        // A line break at the end comes from editors and `echo`.
        let value = lookup.text(key)?.trim_end_matches(['\r', '\n']);
        if !is_value(value) {
            return Err(lookup.malformed(format_args!(
                "holds a line break or control character in its key `{key}`: a header's value is one line"
            )));
        }
        if value.is_empty() {
            return Err(lookup.malformed(format_args!("holds nothing in its key `{key}`")));
        }
        Ok(value.to_owned())
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_value(value: &str) -> bool {
    !value.chars().any(|c| c.is_control() && c != '\t')
}
