//! Config files put together from pieces: one byte, one piece. Bytes as text rarely make two tables that belong
//! together; pieces do.

use std::collections::BTreeSet;

use crate::config::NEXT_FILE;

pub(crate) const PLUGINS: [&str; 4] =
    ["cri", "'io.containerd.grpc.v1.cri'", "\"io.containerd.grpc.v1.cri\"", "'io.containerd.cri.v1.images'"];

/// Below `plugins.P`.
pub(crate) const TABLES: [&str; 16] = [
    "",
    ".registry",
    ".registry.mirrors",
    ".registry.mirrors.'docker.io'",
    ".registry.mirrors.'*'",
    ".registry.configs",
    ".registry.configs.'m.example'",
    ".registry.configs.'m.example'.tls",
    ".registry.configs.'m.example'.auth",
    ".registry.auths.'https://m.example'",
    ".registry.headers",
    ".containerd",
    ".containerd.runtimes.runc",
    ".containerd.runtimes.nvidia.options",
    ".cni",
    ".image_decryption",
];

pub(crate) const KEYS: [&str; 32] = [
    "config_path = ''",
    "config_path = \"/etc/containerd/certs.d\"",
    "config_path = '/a:/b'",
    "config_path = \"/srv/certs.d\" # why",
    "config_path = \"\"\"\n/srv\"\"\"",
    "endpoint = ['https://m.example', \"http://127.0.0.1:5000/v2\"]",
    "endpoint = [\n  'https://m.example', # first\n  'https://registry-1.docker.io',\n]",
    "endpoint = []",
    "rewrite = { a = 'b' }",
    "insecure_skip_verify = true",
    "ca_file = '/ca.pem'",
    "cert_file = '/cert.pem'\nkey_file = '/key.pem'",
    "username = 'u'\npassword = 'S3CR3T'",
    "auth = 'dTpw'",
    "identitytoken = 'S3CR3T'",
    "discard_unpacked_layers = true",
    "disable_snapshot_annotations = false",
    "use_local_image_pull = true",
    "max_concurrent_downloads = 5",
    "sandbox_image = 'registry.k8s.io/pause:3.9'",
    "registry = { config_path = '/a:/b' }",
    "registry = { mirrors = { 'quay.io' = { endpoint = ['https://q.example'] } }, config_path = '' }",
    "registry.config_path = '/a:/b'",
    "registry.mirrors.'quay.io'.endpoint = ['https://q.example']",
    "registry.mirrors.'quay.io' = { endpoint = [\n'https://q.example'\n] }",
    "registry.configs.'m.example'.tls = { insecure_skip_verify = true }",
    "registry.configs.'m.example'.auth.username = 'u'",
    "registry.headers.X-Team = ['blue']",
    "registry = {}",
    "runtime_type = 'io.containerd.runc.v2'",
    "'quay.io' = { endpoint = ['https://q.example'], }",
    "mirrors.'quay.io' = {}",
];

pub(crate) const ROOT: [&str; 32] = [
    "version = 1",
    "version = 2",
    "version = 3",
    "version = 4",
    "version = 0",
    "imports = ['/etc/containerd/conf.d/*.toml']",
    "imports = ['conf.d/1.toml', '/etc/containerd/conf.d/2.toml']",
    "disabled_plugins = []",
    "disabled_plugins = ['cri']",
    "disabled_plugins = ['io.containerd.internal.v1.restart']",
    "root = '/var/lib/containerd'",
    "oom_score = -999",
    "plugins.'io.containerd.gc.v1.scheduler'.pause_threshold = 0.02",
    "plugins.'io.containerd.cri.v1.images'.registry.config_path = '/a:/b'",
    "plugins.cri.registry.mirrors.'quay.io'.endpoint = ['https://q.example']",
    "plugins.\"io.containerd.grpc.v1.cri\" = { registry = { mirrors = { 'a.example' = { endpoint = ['https://q.example'] } } } }",
    "plugins = { 'io.containerd.cri.v1.images' = { registry = { config_path = '' } } }",
    "plugins = {}",
    "[plugins]",
    "[debug]",
    "[metrics] # here",
    "[stream_processors.'io.x']",
    "[proxy_plugins.stargz]",
    "[[plugins.cri.lists]]",
    "[timeouts]",
    "[ plugins . cri . registry ]",
    "[plugins.\"io.containerd.cri.v1.images\".\"registry\"]",
    "level = 'info'",
    "path = '''\n[plugins.cri.registry]\n'''",
    "args = [\n  'a', # first\n  'b',\n]",
    "'a b'.\"c\" = 1979-05-27T07:32:00Z",
    "# config_path = \"/etc/containerd/certs.d\"",
];

/// The input of [`crate::config::Host::read`] that these bytes stand for.
#[must_use]
pub fn assemble(data: &[u8]) -> Vec<u8> {
    let Some((&daemon, rest)) = data.split_first() else { return Vec::new() };
    let mut out = vec![daemon];
    let mut state = State::default();
    for &byte in rest.iter().take(24) {
        let index = usize::from(byte & 0x1f);
        match byte {
            0..=63 => {
                let (plugin, table) = (PLUGINS[usize::from(byte & 3)], TABLES[usize::from(byte >> 2)]);
                state.line(&mut out, &format!("[plugins.{plugin}{table}]"));
            }
            64..=95 => state.line(&mut out, KEYS[index]),
            96..=127 => state.line(&mut out, ROOT[index]),
            128..=135 => state.newline = if byte & 1 == 0 { "\n" } else { "\r\n" },
            136..=143 => state.indentation = ["", "  ", "\t", "    "][usize::from(byte & 3)],
            144..=147 => {
                out.push(NEXT_FILE);
                state.seen.clear();
            }
            148 => out.extend_from_slice(b"\xef\xbb\xbf"),
            149 => out.extend_from_slice(b"# \xff\n"),
            150..=175 => state.line(&mut out, ["", "# about this", "  # and that", "#"][usize::from(byte & 3)]),
            // without a newline behind
            176..=207 => out.extend_from_slice(KEYS[index].as_bytes()),
            208..=239 => out.extend_from_slice(ROOT[index].as_bytes()),
            240..=255 => {
                while out.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) && out.len() > 1 {
                    out.pop();
                }
            }
        }
    }
    out
}

struct State {
    newline: &'static str,
    indentation: &'static str,
    /// Headers and keys of this section that stand there already: twice is never valid.
    seen: BTreeSet<String>,
    section: String,
}

impl Default for State {
    fn default() -> Self {
        Self { newline: "\n", indentation: "", seen: BTreeSet::new(), section: String::new() }
    }
}

impl State {
    fn line(&mut self, out: &mut Vec<u8>, text: &str) {
        if text.starts_with('[') {
            self.section = text.replace(['\'', '"', ' '], "");
            if !self.seen.insert(self.section.clone()) {
                return;
            }
        } else if let Some((key, _)) = text.split_once('=')
            && !self.seen.insert(format!("{} {key}", self.section))
        {
            return;
        }
        for line in text.split('\n') {
            out.extend_from_slice(self.indentation.as_bytes());
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(self.newline.as_bytes());
        }
    }
}
