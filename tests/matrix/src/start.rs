//! The configurations that a node may have before the operator comes.

use anyhow::Result;
use testbed::Node;

use crate::users;

/// The main file.
pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";
const CA: &str = "/etc/containerd/private-ca.pem";

/// A kind of configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No file at all.
    None,
    /// What `containerd config default` prints.
    Default,
    /// As KinD ships it.
    Kind,
    /// Two directories, as the documentation of several distributions has it.
    ColonList,
    /// The old tables: mirrors, credentials, and TLS where the daemon still reads it.
    Legacy,
    /// Old mirrors under a snapshotter for which the transfer service does not unpack.
    Native,
    /// The same in a file of version 2.
    NativeVersion2,
    /// Old mirrors of a registry that the node and the pods ask as different users.
    NodeUser,
    /// As the toolkits of GPU vendors leave it, with more runtimes.
    Gpu,
    /// Settings in a drop-in.
    DropIns,
}

impl Start {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::Default,
        Self::Kind,
        Self::ColonList,
        Self::Legacy,
        Self::Native,
        Self::NativeVersion2,
        Self::NodeUser,
        Self::Gpu,
        Self::DropIns,
    ];

    /// Its name in test output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Default => "default",
            Self::Kind => "kind",
            Self::ColonList => "colon-list",
            Self::Legacy => "legacy",
            Self::Native => "mirrors-under-native-snapshotter",
            Self::NativeVersion2 => "mirrors-under-native-snapshotter-v2",
            Self::NodeUser => "node-user-and-pull-secret",
            Self::Gpu => "gpu",
            Self::DropIns => "drop-ins",
        }
    }

    /// The plan that this configuration needs with this containerd.
    #[must_use]
    pub fn expected(self, containerd: &str) -> &'static str {
        let line = line(containerd);
        match self {
            Self::Legacy | Self::Native | Self::NativeVersion2 | Self::NodeUser => "Migrate",
            // Up to 2.0 a list is split; 2.1 takes it for one directory.
            Self::ColonList if line < (2, 1) => "Adopt",
            // `discard_unpacked_layers` makes 2.2 read its default list as 2.0 did.
            Self::Kind if line >= (2, 2) => "Adopt",
            Self::None | Self::Default | Self::Kind | Self::ColonList | Self::Gpu | Self::DropIns => "Patch",
        }
    }

    /// The bed's registry that serves an image of `registry` with this configuration.
    #[must_use]
    pub fn serves(self, containerd: &str, registry: &str) -> &'static str {
        match (self, registry) {
            (Self::Legacy | Self::Native | Self::NativeVersion2 | Self::NodeUser, "docker.io") => "mirror2",
            (Self::Legacy, _) if line(containerd) < (2, 0) => "harbor",
            (Self::Legacy, _) => "mirror2",
            (_, "docker.io") => "docker.io",
            (_, _) => "quay.io",
        }
    }

    /// The files, by path.
    pub(crate) fn files(self, node: &Node, private_ca: &str) -> Result<Vec<(String, String)>> {
        let containerd = node.spec().containerd.as_str();
        let is_v1 = line(containerd) < (2, 0);
        let main = |text: String| vec![(CONFIG.to_owned(), text)];
        Ok(match self {
            Self::None => Vec::new(),
            Self::Default => main(node.sh("containerd config default")?),
            Self::Kind => main(KIND.to_owned()),
            Self::ColonList => main(colon_list(is_v1)),
            Self::Legacy => {
                let mut files = main(if is_v1 { LEGACY_1.replace("CA", CA) } else { LEGACY_2.to_owned() });
                files.push((CA.to_owned(), private_ca.to_owned()));
                files
            }
            Self::Native => main(if is_v1 { NATIVE_2.to_owned() } else { NATIVE_3.to_owned() }),
            Self::NativeVersion2 => main(NATIVE_2.to_owned()),
            Self::NodeUser => main(node_user(is_v1)),
            Self::Gpu => main(if is_v1 { GPU_1.to_owned() } else { GPU_2.to_owned() }),
            Self::DropIns => {
                let (text, drop_in) = if is_v1 { DROP_INS_1 } else { DROP_INS_2 };
                let mut files = main(text.to_owned());
                files.push(("/etc/containerd/conf.d/99-nvidia.toml".to_owned(), drop_in.to_owned()));
                files
            }
        })
    }
}

/// `(2, 1)` for `2.1.9`.
fn line(containerd: &str) -> (u32, u32) {
    let mut numbers = containerd.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

const KIND: &str = r#"# explicitly use v2 config format
version = 2

[proxy_plugins]
# fuse-overlayfs is used for rootless
[proxy_plugins."fuse-overlayfs"]
  type = "snapshot"
  address = "/run/containerd-fuse-overlayfs.sock"

[plugins."io.containerd.grpc.v1.cri".containerd]
  # save disk space when using a single snapshotter
  discard_unpacked_layers = true
  # explicitly use default snapshotter so we can sed it in entrypoint
  snapshotter = "overlayfs"
  # explicit default here, as we're configuring it below
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  # set default runtime handler to v2, which has a per-pod shim
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri"]
  # allow hugepages controller to be missing
  tolerate_missing_hugetlb_controller = true
  # restrict_oom_score_adj needs to be true when running inside UserNS
  restrict_oom_score_adj = false
"#;

/// The newest version of a file, and the plugin that reads the registry settings in it.
const fn plugin(is_v1: bool) -> (u32, &'static str) {
    if is_v1 { (2, "io.containerd.grpc.v1.cri") } else { (3, "io.containerd.cri.v1.images") }
}

fn colon_list(is_v1: bool) -> String {
    let (version, plugin) = plugin(is_v1);
    format!(
        "version = {version}\n\n[plugins.'{plugin}'.registry]\n   config_path = \
         '/etc/containerd/certs.d:/etc/docker/certs.d'   # both\n"
    )
}

const LEGACY_1: &str = r#"version = 2
root = "/var/lib/containerd"

[plugins."io.containerd.grpc.v1.cri"]
  tolerate_missing_hugetlb_controller = true

  [plugins."io.containerd.grpc.v1.cri".registry]

    [plugins."io.containerd.grpc.v1.cri".registry.mirrors]
      [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
        endpoint = ["http://10.88.0.1:5001"]
      [plugins."io.containerd.grpc.v1.cri".registry.mirrors."quay.io"]
        endpoint = ["https://harbor.testbed.internal:5004"]

    [plugins."io.containerd.grpc.v1.cri".registry.configs]
      [plugins."io.containerd.grpc.v1.cri".registry.configs."harbor.testbed.internal:5004".tls]
        ca_file = "CA"
      [plugins."io.containerd.grpc.v1.cri".registry.configs."harbor.testbed.internal:5004".auth]
        username = "robot$mirror"
        password = "s3cret-robot-token"

  # what follows the registry stays
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"#;

const LEGACY_2: &str = r#"version = 3
root = '/var/lib/containerd'

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'

  [plugins.'io.containerd.cri.v1.images'.registry]
    [plugins.'io.containerd.cri.v1.images'.registry.mirrors]
      [plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']
        endpoint = ['http://10.88.0.1:5001']
      [plugins.'io.containerd.cri.v1.images'.registry.mirrors.'quay.io']
        endpoint = ['http://10.88.0.1:5001']
    [plugins.'io.containerd.cri.v1.images'.registry.configs.'10.88.0.1:5001'.auth]
      username = 'nobody'
      password = 'asks-for-it'

[plugins.'io.containerd.cri.v1.runtime']
  tolerate_missing_hugetlb_controller = true
"#;

const NATIVE_2: &str = r#"version = 2

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
  endpoint = ["http://10.88.0.1:5001"]
"#;

const NATIVE_3: &str = r"version = 3

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'native'
  [plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']
    endpoint = ['http://10.88.0.1:5001']
";

fn node_user(is_v1: bool) -> String {
    let (version, plugin) = plugin(is_v1);
    let registry = format!("[plugins.'{plugin}'.registry");
    let (name, address, (user, password)) = (users::REGISTRY, users::ADDRESS, users::NODE);
    format!(
        "version = {version}\n\n{registry}.mirrors.'docker.io']\n  endpoint =          ['http://10.88.0.1:5001']\n{registry}.mirrors.'{name}']\n  endpoint =          ['http://{address}']\n{registry}.configs.'{address}'.auth]\n  username = '{user}'\n  password = '{password}'\n"
    )
}

const GPU_1: &str = r#"version = 2

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    enable_cdi = true
    cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]

    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "nvidia"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_engine = ""
          runtime_root = ""
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = false
"#;

const GPU_2: &str = r#"version = 3

[plugins]

  [plugins."io.containerd.cri.v1.runtime"]
    cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
    enable_cdi = true

    [plugins."io.containerd.cri.v1.runtime".containerd]
      default_runtime_name = "nvidia"

      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes]

        [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
            SystemdCgroup = false

        [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
"#;

/// On 1.x the drop-in's table replaces the main file's table of the same plugin whole.
const DROP_INS_1: (&str, &str) = (
    r#"version = 2
imports = ["/etc/containerd/conf.d/*.toml"]

[debug]
  level = "info"

[plugins."io.containerd.grpc.v1.cri"]
  tolerate_missing_hugetlb_controller = true
"#,
    r#"version = 2

[plugins."io.containerd.grpc.v1.cri"]
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
        BinaryName = "/usr/bin/nvidia-container-runtime"
"#,
);

const DROP_INS_2: (&str, &str) = (
    r#"version = 3
imports = ['/etc/containerd/conf.d/*.toml']

[debug]
  level = 'info'

[plugins.'io.containerd.cri.v1.runtime']
  tolerate_missing_hugetlb_controller = true
"#,
    r#"version = 3

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
    BinaryName = '/usr/bin/nvidia-container-runtime'
"#,
);
