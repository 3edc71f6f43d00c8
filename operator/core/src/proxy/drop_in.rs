//! The drop-in of containerd's unit.

use std::path::{Path, PathBuf};

/// systemd reads drop-ins by name and the last assignment wins (systemd.unit(5)). The usual names for a proxy,
/// `http-proxy.conf` and `proxy.conf`, come before this one, which therefore holds where it speaks.
pub const DROP_IN_NAME: &str = "zz-registry-mirror-proxy.conf";

/// The first line. Whose file it is, is told by the file itself, so that it survives the loss of the state directory.
const MARKER: &str = "# registry-mirror-operator: containerd.proxy.";

/// Where the drop-in of a unit lies.
#[must_use]
pub fn drop_in_path(unit: &str) -> PathBuf {
    Path::new("/etc/systemd/system").join(format!("{unit}.d")).join(DROP_IN_NAME)
}

/// The whole file.
#[must_use]
pub fn render(variables: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("{MARKER} Do not edit: changes are undone.\n[Service]\n");
    for (name, value) in variables {
        text.push_str(&line(name, value));
        text.push('\n');
    }
    text.into_bytes()
}

/// Whether the operator wrote this file, however it was edited since.
#[must_use]
pub fn is_ours(content: &[u8]) -> bool {
    content.starts_with(MARKER.as_bytes())
}

/// Whether a file that [`render`] wrote sets a variable to this value.
#[must_use]
pub fn sets(content: &[u8], name: &str, value: &str) -> bool {
    let line = line(name, value);
    String::from_utf8_lossy(content).lines().any(|found| found == line)
}

/// One assignment. Within quotes systemd reads C escapes (systemd.syntax(7)), and `%` begins a specifier
/// (systemd.unit(5)); `$` means nothing here (systemd.exec(5)).
fn line(name: &str, value: &str) -> String {
    let mut line = format!("Environment=\"{name}=");
    for character in value.chars() {
        match character {
            '%' => line.push_str("%%"),
            '"' | '\\' => line.extend(['\\', character]),
            other if other.is_control() => line.push_str(&format!("\\x{:02x}", u32::from(other))),
            other => line.push(other),
        }
    }
    line.push('"');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_as_reviewed() {
        let variables = [
            ("HTTPS_PROXY".to_owned(), "http://proxy.example.com:3128".to_owned()),
            ("NO_PROXY".to_owned(), r#"localhost,%i,"a\b",$HOME"#.to_owned()),
        ];
        let content = render(&variables);
        insta::assert_snapshot!(String::from_utf8_lossy(&content), @r#"
        # registry-mirror-operator: containerd.proxy. Do not edit: changes are undone.
        [Service]
        Environment="HTTPS_PROXY=http://proxy.example.com:3128"
        Environment="NO_PROXY=localhost,%%i,\"a\\b\",$HOME"
        "#);
        assert!(is_ours(&content) && !is_ours(b"[Service]\n"));
        let [(name, value), _] = &variables;
        assert!(sets(&content, name, value) && !sets(&content, name, "http://proxy.example.com:312"));
    }

    #[test]
    fn it_comes_after_the_usual_names() {
        for usual in ["10-proxy.conf", "99-proxy.conf", "http-proxy.conf", "proxy.conf", "override.conf"] {
            assert!(usual < DROP_IN_NAME, "{usual}");
        }
        assert_eq!(
            drop_in_path("containerd.service"),
            Path::new("/etc/systemd/system/containerd.service.d/zz-registry-mirror-proxy.conf")
        );
    }
}
