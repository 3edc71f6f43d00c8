//! What the people who must find out why a scenario failed look at first.

use std::fmt::Write as _;

use crate::{cluster::Cluster, install::NAMESPACE};

impl Cluster {
    /// The state of everything that matters, in one text. Never fails: what cannot be had is said.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut text = String::new();
        let mut section = |title: &str, content: Result<String, anyhow::Error>| {
            let content = content.unwrap_or_else(|error| format!("(not to be had: {error:#})"));
            let _ = writeln!(text, "---- {title}\n{}", content.trim_end());
        };
        let kubectl = |args: &[&str]| self.bed().kubectl(["--request-timeout=5s"].iter().chain(args).copied());
        section("pods", kubectl(&["get", "pods", "--all-namespaces", "-o", "wide"]));
        section("mirrors", kubectl(&["get", "registrymirrors,nodemirrors"]));
        section(
            "RegistryMirrors",
            kubectl(&[
                "get",
                "registrymirrors",
                "-o",
                "jsonpath={range .items[*]}{.metadata.name}: {.status}{\"\\n\"}{end}",
            ]),
        );
        section(
            "NodeMirrors",
            kubectl(&[
                "get",
                "nodemirrors",
                "-o",
                "jsonpath={range .items[*]}{.metadata.name}: {.spec} {.status}{\"\\n\"}{end}",
            ]),
        );
        section(
            "roll-out",
            kubectl(&[
                "get",
                "configmap",
                "registry-mirror-rollout",
                "--namespace",
                NAMESPACE,
                "--ignore-not-found",
                "-o",
                "jsonpath={.data}",
            ]),
        );
        section(
            "events",
            kubectl(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"])
                .map(|text| last_lines(&text, 25)),
        );
        for component in ["controller", "agent"] {
            let selector = format!("app.kubernetes.io/component={component}");
            let args = [
                "logs",
                "--namespace",
                NAMESPACE,
                "--selector",
                &selector,
                "--all-containers",
                "--prefix",
                "--tail=40",
            ];
            section(&format!("log of the {component}"), kubectl(&args));
            let previous: Vec<&str> = args.iter().copied().chain(["--previous"]).collect();
            if let Ok(log) = kubectl(&previous) {
                section(&format!("log of the {component} before its restart"), Ok(log));
            }
        }
        for node in self.nodes() {
            let journal = "journalctl --unit containerd --unit 'registry-mirror*' --no-pager --lines 60 --output short-precise \
                | grep -v -E 'level=(info|debug)' | tail -n 20";
            section(&format!("journal of containerd and the guard on {}", node.name()), node.sh(journal));
            let files = "cat /etc/containerd/config.toml; ls -laR /etc/containerd/certs.d /var/lib/registry-mirror-operator 2>/dev/null";
            section(&format!("files on {}", node.name()), node.sh(files));
        }
        text
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
