//! The registries' access logs: what was asked of which registry, and by whom. They prove where a pull went.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::fmt::strtime;
use serde::Serialize;

/// One request, as the registry wrote it down after answering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// When the request was answered, to the second.
    pub time: Timestamp,
    /// The node, or whoever asked.
    pub client: Ipv4Addr,
    /// `HEAD`, `GET`, ...
    pub method: String,
    /// The path without its query, percent escapes as sent.
    pub path: String,
    /// The registry on whose behalf a mirror was asked: containerd's `ns=` query, decoded.
    pub namespace: Option<String>,
    /// The code of the answer. 0 where the registry never answers.
    pub status: u16,
    /// The `Referer` header, the one that a registry writes down and containerd does not send by itself.
    pub referer: String,
    /// What the client calls itself.
    pub agent: String,
}

/// Reads a log in the combined format. A last line without its end is left out: it is still being written.
///
/// # Errors
/// When a line is not in that format; the message holds the line.
pub fn parse(log: &str) -> Result<Vec<Access>> {
    log.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .filter(|line| !line.trim().is_empty())
        .map(|line| parse_line(line).with_context(|| format!("this line is not in the combined log format: {line}")))
        .collect()
}

fn parse_line(line: &str) -> Option<Access> {
    let (client, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once('[')?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let status = rest.split(' ').next()?.parse().ok()?;
    let mut quoted = rest.split('"').skip(1).step_by(2);
    let (referer, agent) = (quoted.next().unwrap_or_default(), quoted.next().unwrap_or_default());
    Some(Access {
        time: strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?.to_timestamp().ok()?,
        client: client.split(':').next()?.parse().ok()?,
        method: method.to_owned(),
        path: path.to_owned(),
        namespace: query.split('&').find_map(|pair| pair.strip_prefix("ns=")).map(decode),
        status,
        referer: referer.to_owned(),
        agent: agent.to_owned(),
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "10.88.0.11 - - [21/Nov/2026:07:30:05 +0000] \"HEAD /v2/library/nginx/manifests/1.27?ns=docker.io HTTP/1.1\" 200 512 \"\" \"containerd/1.6.20~ds1\"\n";

    #[test]
    fn a_pull_through_a_mirror() {
        assert_eq!(
            parse(LINE).unwrap(),
            [Access {
                time: "2026-11-21T07:30:05Z".parse().unwrap(),
                client: Ipv4Addr::new(10, 88, 0, 11),
                method: "HEAD".to_owned(),
                path: "/v2/library/nginx/manifests/1.27".to_owned(),
                namespace: Some("docker.io".to_owned()),
                status: 200,
                referer: String::new(),
                agent: "containerd/1.6.20~ds1".to_owned(),
            }]
        );
    }

    #[test]
    fn a_header_that_a_mirror_was_sent() {
        let log = LINE.replace("512 \"\"", "512 \"tenant-blue\"");
        let access = &parse(&log).unwrap()[0];
        assert_eq!((access.referer.as_str(), access.agent.as_str()), ("tenant-blue", "containerd/1.6.20~ds1"));
    }

    #[test]
    fn a_namespace_with_a_port_is_decoded() {
        let log = LINE.replace("ns=docker.io", "x=1&ns=127.0.0.1%3A1");
        assert_eq!(parse(&log).unwrap()[0].namespace.as_deref(), Some("127.0.0.1:1"));
    }

    #[test]
    fn no_query_no_namespace() {
        let log = LINE.replace("?ns=docker.io", "");
        assert_eq!(parse(&log).unwrap()[0].namespace, None);
    }

    #[test]
    fn a_line_still_being_written_waits() {
        let log = format!("{LINE}10.88.0.11 - - [21/Nov");
        assert_eq!(parse(&log).unwrap().len(), 1);
    }

    #[test]
    fn a_broken_line_is_shown() {
        let error = parse("nonsense\n").unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
    }

    #[test]
    fn a_stray_percent_sign_stays() {
        assert_eq!(decode("a%zz%4"), "a%zz%4");
    }
}
