//! Every version that the test bed is made of. A change here makes a new entry in the cache.

/// Release of Kubernetes: control plane, kubelet and kubectl.
pub const KUBERNETES: &str = "1.34.4";

/// Release of helm.
pub const HELM: &str = "3.20.2";

/// Release of distribution, whose token server goes with the registry.
pub const DISTRIBUTION: &str = "2.8.3";

/// Debian release of the nodes' root file system.
pub const DEBIAN: &str = "bookworm";

/// The containerd that comes from Debian; the others are built from source.
pub const CONTAINERD_DEBIAN: &str = "1.6.20";

/// Releases of containerd that are built from source: the last one of each line that is alive, and the newest.
pub const CONTAINERD_BUILT: [&str; 6] = ["1.7.35", "2.0.14", "2.1.9", "2.2.9", "2.3.7", "2.4.2"];

/// Release of K3s, which brings its own fork of containerd; the module's commit is in `tools/k3s/go.mod`.
pub const K3S: &str = "1.35.0";

/// The containerd in it.
pub const CONTAINERD_K3S: &str = "2.1.5-k3s1";

/// Debian packages whose files are unpacked into the cache, never installed: their daemons must not start here.
pub const UNPACKED_PACKAGES: [(&str, &str); 5] = [
    ("containerd", "1.6.20~ds1-1+deb12u3"),
    ("containernetworking-plugins", "1.1.1+ds1-3+b5"),
    ("docker-registry", "2.8.2+ds1-1"),
    ("etcd-server", "3.4.23-4+b4"),
    ("busybox-static", "1:1.35.0-4+deb12u1+b1"),
];

/// The Debian package of a small forward proxy. Not one of the above: few tests need it.
pub const FORWARD_PROXY: (&str, &str) = ("tinyproxy-bin", "1.11.1-2.1+deb12u1");

/// Debian packages that the machine itself needs. None of them starts a service.
pub const MACHINE_PACKAGES: [&str; 11] = [
    "systemd-container",
    "debootstrap",
    "iproute2",
    "iptables",
    "apache2-utils",
    "openssl",
    "util-linux",
    "procps",
    "socat",
    "gcc",
    "libc6-dev",
];

/// What a node's root file system holds beside Debian's minimal base.
pub const NODE_PACKAGES: [&str; 14] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "runc",
    "iproute2",
    "iptables",
    "conntrack",
    "ethtool",
    "socat",
    "kmod",
    "mount",
    "util-linux",
    "ca-certificates",
    "procps",
];

/// Tags of the sandbox image that the containerd releases above ask for by default
/// (1.6 asks for 3.6, 1.7 for 3.8, 2.0 for 3.10, 2.4 for 3.10.2).
pub const PAUSE_TAGS: [&str; 6] = ["3.6", "3.8", "3.9", "3.10", "3.10.1", "3.10.2"];
