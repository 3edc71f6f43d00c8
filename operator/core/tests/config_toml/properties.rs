//! What holds for every configuration.

use std::{collections::BTreeMap, fmt, path::Path};

use proptest::prelude::*;
use registry_mirror_core::{
    config_toml::{self, Edit, Effectiveness, MapSource, Need, PatchError, PullPath, Trigger, UndoOutcome},
    containerd::Version,
};

const MAIN: &str = "/etc/containerd/config.toml";
const DIRECTORY: &str = "/etc/containerd/certs.d";

const LOCAL_PULL: &str = "/plugins/io.containerd.cri.v1.images/use_local_image_pull";

/// Sections that may stand in a file in any order, once each. `P` is the plugin, quoted in one of the ways.
const SECTIONS: &[(&str, &[&str])] = &[
    ("debug", &["level = 'info'", "format = \"json\""]),
    ("plugins.P", &["sandbox_image = 'registry.k8s.io/pause:3.9'", "max_concurrent_downloads = 5"]),
    ("plugins.P.cni", &["bin_dir = '/opt/cni/bin'", "args = [\n  'a', # first\n  'b',\n]"]),
    ("plugins.P.containerd", &["discard_unpacked_layers = true", "snapshotter = 'native'"]),
    ("plugins.'io.containerd.cri.v1.images'", &["use_local_image_pull = false", "use_local_image_pull = true"]),
    ("plugins.P.containerd.runtimes.runc", &["runtime_type = 'io.containerd.runc.v2'"]),
    ("plugins.P.registry", &["config_path = ''", "config_path = '/a:/b'", "config_path = \"/srv/certs.d\""]),
    ("plugins.P.registry.headers", &["X-Team = ['blue', 'green']"]),
    ("plugins.P.registry.mirrors", &["'quay.io' = { endpoint = ['https://q.example'] }"]),
    ("plugins.P.registry.mirrors.'docker.io'", &["endpoint = ['https://a.example', 'http://b.example/v2/x']"]),
    ("plugins.P.registry.configs.'a.example'.auth", &["username = 'u'\npassword = 'p'", "identitytoken = 't'"]),
    ("plugins.P.registry.configs.'a.example'.tls", &["insecure_skip_verify = true", "ca_file = '/a.pem'"]),
    ("metrics", &["address = '127.0.0.1:1338'"]),
    ("stream_processors.'io.x'", &["path = '''\n[plugins.P.registry]\n'''"]),
];

const PLUGINS: &[&str] =
    &["cri", "'io.containerd.grpc.v1.cri'", "\"io.containerd.grpc.v1.cri\"", "'io.containerd.cri.v1.images'"];

const HEADS: &[&str] =
    &["", "", "version = 1\n", "version = 2\n", "version = 2\n", "version = 3 # new\n", "version = 4\n"];

const VERSIONS: &[Version] = &[
    Version::new(1, 6, 20),
    Version::new(1, 7, 35),
    Version::new(2, 0, 14),
    Version::new(2, 1, 9),
    Version::new(2, 2, 0),
    Version::new(2, 2, 9),
    Version::new(2, 3, 7),
    Version::new(2, 4, 2),
];

prop_compose! {
    fn section()(
        index in 0..SECTIONS.len(),
        plugin in prop::sample::select(PLUGINS),
        key in any::<prop::sample::Index>(),
        with_key in prop::bool::weighted(0.8),
        indentation in prop::sample::select(&["", "  ", "\t"][..]),
        lead in prop::sample::select(&["", "\n", "# about this\n", "\n  # a\n# b\n\n"][..]),
        tail in prop::sample::select(&["", " # why", "\t#"][..]),
    ) -> (String, String) {
        let (name, keys) = SECTIONS[index];
        let path = name.replace('P', plugin);
        let mut text = format!("{lead}{indentation}[{path}]{tail}\n");
        if with_key {
            let pair = keys[key.index(keys.len())];
            for line in pair.split('\n') {
                text.push_str(&format!("{indentation}  {line}\n"));
            }
        }
        (path.replace(['\'', '"'], ""), text)
    }
}

prop_compose! {
    fn file()(
        version in prop::sample::select(HEADS),
        sections in prop::collection::vec(section(), 0..8),
        dotted in prop::bool::weighted(0.1),
        carriage_returns in prop::bool::weighted(0.2),
        newline_at_end in prop::bool::weighted(0.8),
        mark in prop::bool::weighted(0.05),
    ) -> Vec<u8> {
        let mut text = version.to_owned();
        if dotted {
            text.push_str("plugins.'io.containerd.gc.v1.scheduler'.pause_threshold = 0.02\n");
        }
        let mut seen = BTreeMap::new();
        for (name, section) in sections {
            if seen.insert(name, ()).is_none() {
                text.push_str(&section);
            }
        }
        if carriage_returns {
            text = text.replace('\n', "\r\n");
        }
        if !newline_at_end {
            text.truncate(text.trim_end().len());
        }
        let mark: &[u8] = if mark { b"\xef\xbb\xbf" } else { b"" };
        [mark, text.as_bytes()].concat()
    }
}

#[derive(Clone)]
struct Host {
    version: Version,
    source: MapSource,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "containerd {}", self.version)?;
        self.source
            .0
            .iter()
            .try_for_each(|(path, bytes)| writeln!(f, "--- {}\n{}", path.display(), String::from_utf8_lossy(bytes)))
    }
}

prop_compose! {
    fn host()(
        version in prop::sample::select(VERSIONS),
        main in file(),
        drop_ins in prop::collection::vec(file(), 0..3),
    ) -> Host {
        let mut source = MapSource::new();
        let imports = if drop_ins.is_empty() { "" } else { "imports = ['/etc/containerd/conf.d/*.toml']\n" };
        // a byte-order mark must stay in front
        let (mark, body) = main.split_at(if main.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 });
        source = source.with(MAIN, [mark, imports.as_bytes(), body].concat());
        for (index, drop_in) in drop_ins.into_iter().enumerate() {
            source = source.with(format!("/etc/containerd/conf.d/{index}.toml"), drop_in);
        }
        Host { version, source }
    }
}

/// The edit that the host needs, if its files are sound.
fn plan(host: &Host) -> Option<Result<Edit, PatchError>> {
    let config = config_toml::load(Path::new(MAIN), host.version, &host.source).ok()?;
    match config.analyze().need(Path::new(DIRECTORY)) {
        Need::Nothing { .. } => None,
        Need::Patch { directory, .. } => Some(config_toml::patch(&config, &directory)),
        Need::Migrate { directory, .. } => {
            Some(config_toml::migrate(&config, &directory, "2026-11-21").map(|(edit, _)| edit))
        }
    }
}

/// All values of a file outside the registry tables, by their dotted path.
fn outside_of_registries(bytes: &[u8]) -> BTreeMap<String, String> {
    fn walk(item: &toml_edit::Item, path: &str, out: &mut BTreeMap<String, String>) {
        if let Some(table) = item.as_table_like() {
            for (key, item) in table.iter() {
                if !(key == "registry" && path.starts_with("/plugins/")) {
                    walk(item, &format!("{path}/{key}"), out);
                }
            }
        } else if let Some(tables) = item.as_array_of_tables() {
            out.insert(path.to_owned(), tables.to_string());
        } else {
            out.insert(path.to_owned(), item.to_string());
        }
    }
    let text = std::str::from_utf8(bytes).expect("UTF-8").trim_start_matches('\u{feff}');
    let document: toml_edit::DocumentMut = text.parse().expect("TOML");
    let mut out = BTreeMap::new();
    walk(document.as_item(), "", &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sound_host_gets_an_edit_or_a_named_reason(host in host()) {
        match plan(&host) {
            None | Some(Ok(_)) => {}
            Some(Err(PatchError::SeveralFiles { .. })) => {}
            Some(Err(error)) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn after_the_edit_the_daemon_reads_the_directory_and_a_second_edit_is_empty(host in host()) {
        let Some(Ok(edit)) = plan(&host) else { return Ok(()) };
        let edited = host.source.clone().with(&edit.file, edit.after.clone());
        let config = config_toml::load(Path::new(MAIN), host.version, &edited).expect("loads");
        let effectiveness = config.analyze().effectiveness;
        let Effectiveness::Directory(directory) = effectiveness else { panic!("{effectiveness:?}") };
        let again = config_toml::patch(&config, &directory).expect("patches");
        prop_assert!(again.is_empty());
        prop_assert_eq!(again.before, Some(again.after));
    }

    #[test]
    fn nothing_outside_of_the_registry_tables_changes(host in host()) {
        let Some(Ok(edit)) = plan(&host) else { return Ok(()) };
        let before = edit.before.clone().unwrap_or_default();
        let mut values = [&before, &edit.after].map(|bytes| outside_of_registries(bytes));
        // it keeps the pull path, which the next property is about
        for values in &mut values {
            values.remove(LOCAL_PULL);
        }
        prop_assert_eq!(&values[0], &values[1]);
        // and every line of before is there, as it was or behind a comment mark; that their order is the same follows
        // from undo, which only takes out and puts back
        let lines = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8").replace('\u{feff}', "");
        let mut after: Vec<String> = lines(&edit.after).lines().map(str::to_owned).collect();
        for line in lines(&before).lines() {
            match after.iter().position(|other| other == line || other.strip_prefix("# ") == Some(line)) {
                Some(at) => { after.swap_remove(at); }
                // replaced, or taken apart
                None => prop_assert!(["config_path", "use_local_image_pull", "{"].iter().any(|key| line.contains(key)), "lost: {line}"),
            }
        }
    }

    #[test]
    fn no_edit_changes_the_pull_path(host in host()) {
        let Some(Ok(edit)) = plan(&host) else { return Ok(()) };
        let edited = host.source.clone().with(&edit.file, edit.after.clone());
        let path = |source| config_toml::load(Path::new(MAIN), host.version, source).expect("loads").analyze().pull_path;
        let (before, after) = (path(&host.source), path(&edited));
        prop_assert_eq!(before.is_local(), after.is_local(), "{:?} became {:?}", before, after);
        // and the key is set where nothing else keeps it
        if edit.changes.iter().any(|change| change.key.ends_with("use_local_image_pull")) {
            let keeps = matches!(after, PullPath::Local { trigger: Trigger::UseLocalImagePull, .. });
            prop_assert!(keeps && host.version >= Version::new(2, 1, 0), "{:?}", after);
        }
    }

    #[test]
    fn no_edit_takes_credentials_out(host in host()) {
        let Some(Ok(edit)) = plan(&host) else { return Ok(()) };
        let edited = host.source.clone().with(&edit.file, edit.after.clone());
        let users = |source| {
            let legacy = config_toml::load(Path::new(MAIN), host.version, source).expect("loads").analyze().legacy;
            let of = legacy.configs_auth.into_iter().chain(legacy.auths);
            of.map(|origin| origin.value).collect::<Vec<_>>()
        };
        prop_assert_eq!(users(&host.source), users(&edited));
    }

    #[test]
    fn undo_gives_the_bytes_of_before(host in host()) {
        let Some(Ok(edit)) = plan(&host) else { return Ok(()) };
        prop_assert_eq!(config_toml::undo(&edit.after, &edit.undo, host.version), UndoOutcome::Original(edit.before));
    }

    #[test]
    fn undo_takes_back_ours_alone(host in host(), at in any::<prop::sample::Index>()) {
        let Some(Ok(edit)) = plan(&host) else { return Ok(()) };
        // someone adds a comment on a line of its own; text inside of strings is left alone
        let text = String::from_utf8(edit.after.clone()).expect("UTF-8");
        if text.contains("'''") {
            return Ok(());
        }
        let body = text.trim_start_matches('\u{feff}');
        let mut starts: Vec<usize> = body.match_indices('\n').map(|(at, _)| at + 1).collect();
        starts.push(0);
        let at = text.len() - body.len() + starts[at.index(starts.len())];
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let lead = if at == text.len() && !text.is_empty() && !text.ends_with('\n') { newline } else { "" };
        let changed = format!("{}{lead}# someone else{newline}{}", &text[..at], &text[at..]);
        let before = String::from_utf8(edit.before.clone().unwrap_or_default()).expect("UTF-8");
        match config_toml::undo(changed.as_bytes(), &edit.undo, host.version) {
            UndoOutcome::TakenBack(bytes) => {
                let result = String::from_utf8(bytes).expect("UTF-8").replace('\u{feff}', "");
                let before = before.replace('\u{feff}', "");
                let theirs = |line: &&str| line.trim().is_empty() || *line == "# someone else";
                prop_assert!(result.contains("# someone else"));
                let without: Vec<&str> = result.lines().filter(|line| !theirs(line)).collect();
                let before: Vec<&str> = before.lines().filter(|line| !theirs(line)).collect();
                prop_assert_eq!(without, before);
            }
            // the comment fell into a block of old tables
            UndoOutcome::Refused(error) => {
                prop_assert!(edit.changes.iter().any(|change| change.to.is_none()), "{error}\n{changed}");
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn no_secret_is_shown(host in host()) {
        let Ok(config) = config_toml::load(Path::new(MAIN), host.version, &host.source) else { return Ok(()) };
        let analysis = config.analyze();
        let mut shown = format!("{analysis:?} {}", serde_json::to_string(&analysis).expect("JSON"));
        if let Ok((edit, registries)) = config_toml::migrate(&config, Path::new(DIRECTORY), "2026-11-21") {
            shown.push_str(&format!("{:?} {registries:?}", edit.changes));
        }
        for secret in ["= 'p'", "\"p\"", "dTpw", "\"t\""] {
            prop_assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    #[test]
    fn any_text_is_judged_without_a_panic(
        text in "[\\[\\]\"'#={}a-c. \\n\\r\\\\,0-9]{0,60}",
        version in prop::sample::select(VERSIONS),
    ) {
        let source = MapSource::new().with(MAIN, text);
        let _ = plan(&Host { version, source });
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        version in prop::sample::select(VERSIONS),
    ) {
        let source = MapSource::new().with(MAIN, bytes);
        let _ = plan(&Host { version, source });
    }
}

#[test]
fn deep_nesting_is_judged_without_exhausting_the_stack() {
    for text in [
        format!("[{}]\n", vec!["a"; 100_000].join(".")),
        format!("{} = 1\n", vec!["a"; 100_000].join(".")),
        format!("a = {}{}\n", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a = {}1{}\n", "{ a = ".repeat(100_000), " }".repeat(100_000)),
    ] {
        let source = MapSource::new().with(MAIN, text);
        let _ = plan(&Host { version: Version::new(2, 1, 9), source });
    }
}
