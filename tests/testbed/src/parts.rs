//! The parts of a bed, each from the ordinary client of a package registry: Debian packages and Go modules.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::command::{command, run, stdout};
use crate::{k3s, pins};

/// Where the pinned modules and sources of this crate lie.
const HOME: &str = env!("CARGO_MANIFEST_DIR");

/// Raise this when a recipe below changes in a way that its pins do not show.
const RECIPE: &str = "1";

const NEEDS_GO: &str =
    "the test bed builds Kubernetes and containerd from source: install Go 1.26 or newer and put it on the PATH";

const CONTAINERD_TAGS: &str = "no_btrfs no_devmapper no_zfs";

/// Installs the Debian packages of [`pins::MACHINE_PACKAGES`] that are missing.
///
/// # Errors
/// When the machine is not a Debian one, or apt fails.
pub fn install() -> Result<()> {
    let missing: Vec<&str> = pins::MACHINE_PACKAGES.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(" "));
    let install = |missing: &[&str]| {
        run(command(["apt-get", "install", "-y", "-q", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    if install(&missing).is_err() {
        run(&mut command(["apt-get", "update", "-q"]))?;
        install(&missing)?;
    }
    Ok(())
}

fn installed(package: &str) -> bool {
    stdout(&mut command(["dpkg-query", "-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// The files of [`pins::UNPACKED_PACKAGES`], as they would lie under `/`.
///
/// # Errors
/// When Debian does not offer a pinned version any more.
pub fn debian(cache: &Cache) -> Result<PathBuf> {
    let pinned: Vec<String> =
        pins::UNPACKED_PACKAGES.iter().map(|(name, version)| format!("{name}={version}")).collect();
    unpacked(cache, "debian-packages", &pinned)
}

/// The binary of a forward proxy, [`pins::FORWARD_PROXY`].
///
/// # Errors
/// When Debian does not offer the pinned version any more.
pub fn forward_proxy(cache: &Cache) -> Result<PathBuf> {
    let (name, version) = pins::FORWARD_PROXY;
    Ok(unpacked(cache, "forward-proxy", &[format!("{name}={version}")])?.join("usr/bin/tinyproxy"))
}

fn unpacked(cache: &Cache, part: &str, pinned: &[String]) -> Result<PathBuf> {
    cache.ensure(part, format!("{RECIPE} {pinned:?}").as_bytes(), |dir, cache| {
        cache.step("fetching Debian packages", || {
            let downloads = dir.join("downloads");
            fs::create_dir_all(&downloads)?;
            let fetch = || run(command(["apt-get", "download", "-q"]).args(pinned).current_dir(&downloads));
            if fetch().is_err() {
                run(&mut command(["apt-get", "update", "-q"]))?;
                fetch().context("a pinned version is gone from Debian's archive: `apt-cache policy PACKAGE` names the present one, put it into pins.rs")?;
            }
            for entry in fs::read_dir(&downloads)? {
                run(command(["dpkg-deb", "-x"]).arg(entry?.path()).arg(dir))?;
            }
            fs::remove_dir_all(&downloads)?;
            Ok(())
        })
    })
}

/// A minimal Debian with systemd, from which every node is made.
///
/// # Errors
/// When debootstrap fails; the message ends with its last words.
pub fn node_base(cache: &Cache) -> Result<PathBuf> {
    let pins = format!("{RECIPE} {} {:?}", pins::DEBIAN, pins::NODE_PACKAGES);
    let part = cache.ensure("node-base", pins.as_bytes(), |dir, cache| {
        cache.step("building the nodes' root file system", || {
            let root = dir.join("root");
            run(command(["debootstrap", "--variant=minbase"])
                .arg(format!("--include={}", pins::NODE_PACKAGES.join(",")))
                .arg(pins::DEBIAN)
                .arg(&root))?;
            // Neither is of use in a node, and together they are a third of the tree.
            for useless in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"]
            {
                crate::cache::remove_tree(&root.join(useless))?;
            }
            Ok(())
        })
    })?;
    Ok(part.join("root"))
}

/// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl, in one directory.
///
/// # Errors
/// When a Go build fails.
pub fn kubernetes(cache: &Cache) -> Result<PathBuf> {
    let version = pins::KUBERNETES;
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    // Without this stamp the components take each other for version 0.0.0 and refuse to work together.
    let package = "k8s.io/component-base/version";
    let stamp = format!(
        "-X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
    );
    go_part(
        cache,
        "kubernetes",
        version,
        &stamp,
        "",
        &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kubelet",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubectl",
        ],
    )
}

/// The helm client's directory.
///
/// # Errors
/// When the Go build fails.
pub fn helm(cache: &Cache) -> Result<PathBuf> {
    go_part(cache, "helm", pins::HELM, "", "", &["helm.sh/helm/v3/cmd/helm"])
}

/// The directory of `token-server`, which hands out tokens for registries.
///
/// # Errors
/// When the Go build fails.
pub fn token_server(cache: &Cache) -> Result<PathBuf> {
    let package = "github.com/docker/distribution/contrib/token-server";
    go_part(cache, "token-server", pins::DISTRIBUTION, "", "", &[package])
}

/// The directory of `cri`, which asks a node's container runtime over the CRI socket.
///
/// # Errors
/// When the Go build fails.
pub fn cri(cache: &Cache) -> Result<PathBuf> {
    let source = Path::new(HOME).join("tools/cri/main.go");
    let text = fs::read_to_string(&source).with_context(|| format!("{} cannot be read", source.display()))?;
    let version = &crate::cache::hex(&Sha256::digest(text))[..8];
    go_part(cache, "cri", version, "", "", &["registry-mirror.dev/testbed/tools/cri"])
}

/// The directory with `containerd`, `containerd-shim-runc-v2` and `ctr` of a pinned release.
///
/// # Errors
/// When the release is not pinned, or the build fails.
pub fn containerd(cache: &Cache, version: &str) -> Result<PathBuf> {
    if version == k3s::NAME {
        return k3s(cache);
    }
    if version == pins::CONTAINERD_DEBIAN {
        return Ok(debian(cache)?.join("usr/bin"));
    }
    if !pins::CONTAINERD_BUILT.contains(&version) {
        bail!(
            "containerd {version} is not one of the pinned releases ({}, {}): add a directory tools/containerd-{version} and a line in pins.rs",
            pins::CONTAINERD_DEBIAN,
            pins::CONTAINERD_BUILT.join(", ")
        );
    }
    let module = if version.starts_with("1.") {
        "github.com/containerd/containerd"
    } else {
        "github.com/containerd/containerd/v2"
    };
    let stamp = format!("-X {module}/version.Version=v{version}");
    let commands: Vec<String> =
        ["containerd", "containerd-shim-runc-v2", "ctr"].iter().map(|name| format!("{module}/cmd/{name}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    go_part(cache, &format!("containerd-{version}"), version, &stamp, CONTAINERD_TAGS, &commands)
}

/// The names under which K3s's one program is called. As `kubectl` it talks to the cluster of any bed.
const K3S_CALLED: [&str; 6] = ["containerd", "ctr", "kubectl", "crictl", "k3s-server", "k3s-agent"];

/// The directory with `k3s`, the names that it is called by, and its `containerd-shim-runc-v2`: what the program of
/// K3s's releases unpacks at its start.
///
/// It needs a C compiler: for sqlite, and for what clears the command line of its processes.
///
/// # Errors
/// When a build fails.
pub fn k3s(cache: &Cache) -> Result<PathBuf> {
    let (version, containerd) = (pins::K3S, pins::CONTAINERD_K3S);
    let go = stdout(&mut command(["go", "env", "GOVERSION"])).context(NEEDS_GO)?;
    // K3s ends at once where it was built by another Go than it names.
    let stamp = format!(
        "-X github.com/k3s-io/k3s/pkg/version.Version=v{version}+k3s1 \
         -X github.com/k3s-io/k3s/pkg/version.UpstreamGolang={} \
         -X k8s.io/client-go/pkg/version.gitVersion=v{version}+k3s1 \
         -X k8s.io/component-base/version.gitVersion=v{version}+k3s1 \
         -X github.com/containerd/containerd/v2/version.Version=v{containerd}",
        go.trim()
    );
    let tags = "ctrd netcgo osusergo providerless urfave_cli_no_docs sqlite_omit_load_extension apparmor seccomp";
    let module = Path::new(HOME).join("tools/k3s");
    let pins = pins_of(&module, &format!("{version} {stamp} {tags}"))?;
    cache.ensure("k3s", &pins, |dir, cache| {
        cache.step(&format!("building k3s {version}"), || {
            let server = Target { package: "github.com/k3s-io/k3s/cmd/server", stamp: &stamp, tags, cgo: true };
            go_build(&module, &server, &dir.join("k3s"))
        })?;
        cache.step("building containerd-shim-runc-v2 for k3s", || {
            let package = "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2";
            let shim = Target { package, stamp: &stamp, tags: "", cgo: false };
            go_build(&module, &shim, &dir.join("containerd-shim-runc-v2"))
        })?;
        K3S_CALLED.iter().try_for_each(|name| Ok(symlink("k3s", dir.join(name))?))
    })
}

/// A directory with the static `pause` program.
///
/// # Errors
/// When the C compiler or its static library is missing.
pub fn pause(cache: &Cache) -> Result<PathBuf> {
    let source = Path::new(HOME).join("pause/pause.c");
    let pins = fs::read(&source).with_context(|| format!("{} cannot be read", source.display()))?;
    cache.ensure("pause", &pins, |dir, _| {
        run(command(["gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-o"]).arg(dir.join("pause")).arg(&source))?;
        Ok(())
    })
}

/// Everything that a bed needs, so that `up` does not build.
///
/// # Errors
/// Whatever part fails first.
pub fn all(cache: &Cache, every_containerd: bool) -> Result<()> {
    debian(cache)?;
    node_base(cache)?;
    pause(cache)?;
    containerd(cache, "2.4.2")?;
    kubernetes(cache)?;
    cri(cache)?;
    token_server(cache)?;
    helm(cache)?;
    if every_containerd {
        for version in pins::CONTAINERD_BUILT {
            containerd(cache, version)?;
        }
    }
    Ok(())
}

fn go_part(cache: &Cache, part: &str, version: &str, stamp: &str, tags: &str, packages: &[&str]) -> Result<PathBuf> {
    let module = Path::new(HOME).join("tools").join(part);
    let pins = pins_of(&module, &format!("{version} {stamp} {tags} {packages:?}"))?;
    cache.ensure(part, &pins, |dir, cache| {
        stdout(&mut command(["go", "version"])).context(NEEDS_GO)?;
        for package in packages {
            let name = package.rsplit('/').next().unwrap_or(package);
            let whole = part.trim_end_matches(&format!("-{version}"));
            let title = if whole == name {
                format!("building {name} {version}")
            } else {
                format!("building {name} for {whole} {version}")
            };
            cache.step(&title, || go_build(&module, &Target { package, stamp, tags, cgo: false }, &dir.join(name)))?;
        }
        Ok(())
    })
}

/// What a part that is built in this module depends on.
fn pins_of(module: &Path, build: &str) -> Result<Vec<u8>> {
    let mut pins = format!("{RECIPE} {build}\n").into_bytes();
    for file in ["go.mod", "go.sum"] {
        let path = module.join(file);
        pins.extend(fs::read(&path).with_context(|| format!("the pins in {} cannot be read", path.display()))?);
    }
    Ok(pins)
}

/// A Go program.
struct Target<'a> {
    package: &'a str,
    stamp: &'a str,
    tags: &'a str,
    cgo: bool,
}

fn go_build(module: &Path, target: &Target<'_>, binary: &Path) -> Result<()> {
    let Target { package, stamp, tags, cgo } = target;
    run(command(["nice", "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
        .arg(format!("-ldflags=-s -w {stamp}"))
        .arg(format!("-tags={tags}"))
        .arg("-o")
        .arg(binary)
        .arg(package)
        .env("CGO_ENABLED", if *cgo { "1" } else { "0" })
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .current_dir(module))?;
    fs::set_permissions(binary, fs::Permissions::from_mode(0o555))?;
    Ok(())
}
