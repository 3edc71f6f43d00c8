//! The parts of a bed, each from the ordinary client of a package registry: Debian packages and Go modules.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::command::{command, run, stdout};
use crate::pins;

/// Where the pinned modules and sources of this crate lie.
const HOME: &str = env!("CARGO_MANIFEST_DIR");

/// Raise this when a recipe below changes in a way that its pins do not show.
const RECIPE: &str = "1";

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
    let mut pins = format!("{RECIPE} {version} {stamp} {tags} {packages:?}\n").into_bytes();
    for file in ["go.mod", "go.sum"] {
        let path = module.join(file);
        pins.extend(fs::read(&path).with_context(|| format!("the pins in {} cannot be read", path.display()))?);
    }
    cache.ensure(part, &pins, |dir, cache| {
        stdout(&mut command(["go", "version"])).context("the test bed builds Kubernetes and containerd from source: install Go 1.26 or newer and put it on the PATH")?;
        for package in packages {
            let name = package.rsplit('/').next().unwrap_or(package);
            let whole = part.trim_end_matches(&format!("-{version}"));
            let title = if whole == name {
                format!("building {name} {version}")
            } else {
                format!("building {name} for {whole} {version}")
            };
            cache.step(&title, || {
                let binary = dir.join(name);
                run(command(["nice", "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
                    .arg(format!("-ldflags=-s -w {stamp}"))
                    .arg(format!("-tags={tags}"))
                    .arg("-o")
                    .arg(&binary)
                    .arg(package)
                    .env("CGO_ENABLED", "0")
                    .env("GOWORK", "off")
                    .env_remove("GOFLAGS")
                    .current_dir(&module))?;
                fs::set_permissions(&binary, fs::Permissions::from_mode(0o555))?;
                Ok(())
            })?;
        }
        Ok(())
    })
}
