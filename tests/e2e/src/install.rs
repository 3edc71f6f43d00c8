//! Installing the operator as users do: with helm.

use std::{process::Command, sync::PoisonError, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    cluster::{Cluster, succeed},
    product::root,
    until,
};

/// The operator's namespace.
pub const NAMESPACE: &str = "registry-mirror-system";

const RELEASE: &str = "registry-mirror-operator";

/// The chart's values that scenarios differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// `Enforce` or `DryRun`.
    pub mode: &'static str,
    /// `Automatic`, `Manual` or `Never`.
    pub restart_policy: &'static str,
    /// A number of nodes, or a percentage.
    pub max_unavailable: &'static str,
    /// What the controller and the agents log.
    pub log_level: &'static str,
    /// How long an uninstallation waits for the nodes, in seconds; the chart's own value if none is named.
    pub uninstall_seconds: Option<u32>,
    /// containerd's forward proxy.
    pub proxy: Option<Proxy>,
}

/// The values `containerd.proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// For both schemes.
    pub url: String,
    /// `noProxy`.
    pub except: Vec<&'static str>,
    /// `directMirrors`.
    pub direct: Vec<&'static str>,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            mode: "Enforce",
            restart_policy: "Automatic",
            max_unavailable: "1",
            log_level: "info",
            uninstall_seconds: None,
            proxy: None,
        }
    }
}

impl Cluster {
    /// The values of the release that is installed, if one is.
    pub(crate) fn installed_values(&self) -> Option<Values> {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_installed(&self, values: Option<Values>) {
        *self.installed.lock().unwrap_or_else(PoisonError::into_inner) = values;
    }

    fn helm(&self, args: &[&str]) -> Command {
        let helm = self.helm.to_string_lossy().into_owned();
        let mut command = self.bed().inside([helm.as_str()]);
        command.args(args).env("KUBECONFIG", self.bed().kubeconfig());
        for (name, directory) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(name, self.bed().state().join("helm").join(directory));
        }
        command
    }

    /// `helm upgrade --install`; returns when the controller and the agents are ready.
    ///
    /// # Errors
    /// When helm fails; the message is its own.
    pub fn install(&self, values: &Values) -> Result<()> {
        let chart = root().join("charts/registry-mirror-operator");
        let (repository, tag) = &self.image;
        let mut helm = self.helm(&["upgrade", "--install", RELEASE]);
        helm.arg(chart).args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"]);
        let Values { mode, restart_policy, max_unavailable, log_level, uninstall_seconds, proxy } = values;
        if let Some(Proxy { url, except, direct }) = proxy {
            for value in [
                format!("containerd.proxy.httpProxy={url}"),
                format!("containerd.proxy.httpsProxy={url}"),
                format!("containerd.proxy.noProxy={{{}}}", except.join(",")),
                format!("containerd.proxy.directMirrors={{{}}}", direct.join(",")),
            ] {
                helm.args(["--set", &value]);
            }
        }
        for value in [
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            format!("mode={mode}"),
            format!("restart.policy={restart_policy}"),
            format!("restart.maxUnavailable={max_unavailable}"),
            format!("logLevel={log_level}"),
        ] {
            helm.args(["--set", &value]);
        }
        if let Some(seconds) = uninstall_seconds {
            helm.args(["--set", &format!("uninstall.timeoutSeconds={seconds}")]);
        }
        self.set_installed(None);
        succeed(&mut helm, "helm upgrade --install")?;
        self.set_installed(Some(values.clone()));
        Ok(())
    }

    /// `helm uninstall`, as users do it; returns what helm printed.
    ///
    /// # Errors
    /// When helm fails; the message is its own.
    pub fn helm_uninstall(&self, args: &[&str]) -> Result<String> {
        self.set_installed(None);
        let mut helm = self.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]);
        let output = helm.args(args).output().context("helm uninstall could not be started")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(output.status.success(), "helm uninstall failed ({}): {said}", output.status);
        Ok(said)
    }

    /// Follows the log of the Job that helm runs before it removes anything, until the Job ends, and returns it.
    ///
    /// # Errors
    /// When no such log begins within `limit`.
    pub fn uninstall_log(&self, limit: Duration) -> Result<String> {
        let hook = "app.kubernetes.io/component=uninstall";
        until("the first word of the uninstallation", limit, || {
            let args = ["logs", "--namespace", NAMESPACE, "--selector", hook, "--tail=-1", "--follow", "--timestamps"];
            // Until the container has been started, kubectl refuses.
            Ok(self.bed().kubectl(args).ok().filter(|log| !log.is_empty()))
        })
    }

    /// Removes the release and every object of the operator, without its clean-up on the nodes, dead or alive.
    ///
    /// # Errors
    /// When helm or kubectl fails.
    pub fn uninstall(&self) -> Result<()> {
        self.set_installed(None);
        succeed(
            &mut self.helm(&[
                "uninstall",
                RELEASE,
                "--namespace",
                NAMESPACE,
                "--no-hooks",
                "--ignore-not-found",
                "--wait",
                "--timeout",
                "60s",
            ]),
            "helm uninstall",
        )?;
        let bed = self.bed();
        // Helm does not wait for the agents' end, and they write on their nodes until then.
        bed.kubectl(["delete", "pods", "--all", "--namespace", NAMESPACE, "--timeout=90s"])?;
        for kind in ["registrymirrors", "nodemirrors"] {
            // The first run has no such kind yet.
            if bed.kubectl(["get", "crd", &format!("{kind}.registry-mirror.dev")]).is_ok() {
                bed.kubectl(["delete", kind, "--all", "--timeout=60s"])?;
            }
        }
        // What the operator itself made there: the bundle, the pause, the lease.
        for kind in ["secrets", "configmaps", "leases"] {
            let list = bed.kubectl(["get", kind, "--namespace", NAMESPACE, "-o", "name", "--ignore-not-found"])?;
            for name in list.lines().filter(|name| name.contains("/registry-mirror")) {
                bed.kubectl(["delete", name, "--namespace", NAMESPACE, "--ignore-not-found"])?;
            }
        }
        Ok(())
    }
}
