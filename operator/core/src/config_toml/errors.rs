//! What can be wrong with a configuration, said to the person who must act. No message quotes a value.

use std::path::PathBuf;

use thiserror::Error;

use super::source::SourceError;
use crate::containerd::Version;

/// containerd would not start, or would start without CRI, with these files: nothing may be built on them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Not TOML.
    #[error(
        "{}:{line}:{column} is not valid TOML ({reason}): containerd will not start with it; repair that line",
        file.display()
    )]
    Syntax {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// What the parser expected.
        reason: String,
    },
    /// 1.x reads such a file, 2.x refuses it.
    #[error(
        "{} begins with a byte-order mark, which containerd {version} refuses: save the file as UTF-8 without it",
        file.display()
    )]
    ByteOrderMark {
        /// The file.
        file: PathBuf,
        /// The daemon.
        version: Version,
    },
    /// 1.x reads such bytes in comments, 2.x refuses the file.
    #[error(
        "{}:{line} holds bytes that are not UTF-8, which containerd {version} cannot be trusted to read: save the \
         file as UTF-8",
        file.display()
    )]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// The daemon.
        version: Version,
    },
    /// A key has a value of the wrong type.
    #[error("{}:{line}: `{key}` must be {expected}: containerd refuses any other type there", file.display())]
    Type {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// The key, dotted.
        key: String,
        /// For example `a string`.
        expected: &'static str,
    },
    /// The file's `version` is newer than the daemon.
    #[error(
        "{}:{line}: `version = {declared}` is newer than containerd {version} knows (up to {newest}), and with such \
         a file most releases refuse to start: lower it, or upgrade containerd",
        file.display()
    )]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// As the file has it.
        declared: i64,
        /// What this daemon knows.
        newest: u32,
        /// The daemon.
        version: Version,
    },
    /// 2.3.0 to 2.3.4 refuse an import whose version is higher than that of the main file.
    #[error(
        "{}:{line}: `version = {declared}` is higher than the main file's {main}, which containerd {version} refuses \
         at start (2.3.5 accepts it): use the same version in both files",
        file.display()
    )]
    ImportNewerThanMain {
        /// The import.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// As the import has it.
        declared: u32,
        /// As the main file has it.
        main: u32,
        /// The daemon.
        version: Version,
    },
    /// A plain import that does not exist is a start-up error; `containerd config dump` of 2.x hides it.
    #[error(
        "{}:{line} imports {}, which does not exist, so containerd will not start: create that file or take the \
         import out",
        file.display(), import.display()
    )]
    ImportMissing {
        /// The importing file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What it names.
        import: PathBuf,
    },
    /// Go refuses the pattern.
    #[error(
        "{}:{line}: the import pattern `{pattern}` is malformed, so containerd will not start: correct it",
        file.display()
    )]
    ImportPattern {
        /// The importing file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What it names.
        pattern: String,
    },
    /// A version-2 file of 1.x must name plugins by their full URI; `disabled_plugins` of 2.x as well.
    #[error(
        "{}:{line}: containerd {version} refuses the plugin name `{name}` at start: in a version-{declared} file \
         write it in full, for example `io.containerd.grpc.v1.cri`",
        file.display()
    )]
    PluginName {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// As the file has it.
        name: String,
        /// The version that is in force for all files.
        declared: u32,
        /// The daemon.
        version: Version,
    },
    /// 1.x replaces the default runtimes by those of the file.
    #[error(
        "{}:{line}: the table of runtimes has no `{runtime}`, which is the default runtime, so CRI does not load on \
         containerd {version}: add that runtime or set `default_runtime_name`",
        file.display()
    )]
    DefaultRuntimeMissing {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// The name that is looked for.
        runtime: String,
        /// The daemon.
        version: Version,
    },
    /// Two spellings of the CRI plugin in one file that 2.x renames: which of them wins changes from start to start.
    #[error(
        "{}:{line}: the file configures CRI both as `cri` and as `io.containerd.grpc.v1.cri`, and containerd \
         {version} takes one of them at random: keep one",
        file.display()
    )]
    AmbiguousPlugin {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// The daemon.
        version: Version,
    },
}

/// `config_path` cannot be set safely; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatchError {
    /// containerd would load the edited files differently than intended.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The plugin that would read hosts.toml does not run.
    #[error(
        "{}:{line} disables the CRI plugin (`{name}` in disabled_plugins), so containerd {version} serves no \
         Kubernetes node: take it out of the list first",
        file.display()
    )]
    CriDisabled {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// As the list has it.
        name: String,
        /// The daemon.
        version: Version,
    },
    /// `mirrors` (any version) or `configs.*.tls` (1.x) beside `config_path` keep CRI from loading.
    #[error(
        "{}:{line}: `{key}` is set, and containerd {version} does not load CRI with that beside `config_path`: these \
         settings must be migrated into hosts.toml in the same edit",
        file.display()
    )]
    NeedsMigration {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// The key that stands in the way, dotted.
        key: String,
        /// The daemon.
        version: Version,
    },
    /// The directory cannot stand in `config_path`.
    #[error(
        "{} cannot be a config_path: it must be one absolute directory in UTF-8, without `:` and control characters",
        directory.display()
    )]
    Directory {
        /// What was asked for.
        directory: PathBuf,
    },
    /// No edit of any loaded file would take effect and change nothing else.
    #[error(
        "no place was found where `config_path` would take effect for containerd {version} and nothing else would \
         change ({} is the main file): set it by hand",
        main.display()
    )]
    NoPlace {
        /// The main file.
        main: PathBuf,
        /// The daemon.
        version: Version,
    },
    /// Old tables stand in more than one file, which one atomic rename cannot change.
    #[error(
        "the registry settings stand in several files ({}), which cannot be changed in one step: move them into one \
         of these files first",
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    SeveralFiles {
        /// Where it stands.
        files: Vec<PathBuf>,
    },
    /// An old setting that hosts.toml cannot express.
    #[error("{}:{line}: `{key}` cannot be carried over into hosts.toml: {why}", file.display())]
    NotExpressible {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// The key, dotted.
        key: String,
        /// The reason and the remedy.
        why: String,
    },
}
