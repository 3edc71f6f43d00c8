//! Cluster commands where the way out is a forward proxy, as on most company laptops.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Child,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, until};
use testbed::Cache;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1)), 8899);
/// Nobody listens there.
const DEAD: &str = "http://10.88.0.1:9";

/// A real proxy in the bed's network, which goes with the value.
struct ForwardProxy(Child);

impl ForwardProxy {
    fn start(cluster: &Cluster, log: &str) -> Result<Self> {
        let program = testbed::forward_proxy(&Cache::locate()?)?;
        let settings = cluster.bed().state().join("commands-proxy.conf");
        fs::write(&settings, format!("Port {}\nListen {}\nLogFile \"{log}\"\n", ADDRESS.port(), ADDRESS.ip()))?;
        let (program, settings) = (program.display().to_string(), settings.display().to_string());
        let argv = [program.as_str(), "-d", "-c", &settings];
        let child = cluster.bed().inside(argv).spawn().context("the proxy could not be started")?;
        until("the proxy listening", Duration::from_secs(10), || {
            Ok(fs::read_to_string(log).is_ok_and(|log| log.contains("listening")).then_some(()))
        })?;
        Ok(Self(child))
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn of_the_environment(cluster: &Cluster) -> Result<()> {
    cluster.settled()?;
    let log = cluster.bed().state().join("logs/commands-proxy.log").display().to_string();
    let _proxy = ForwardProxy::start(cluster, &log)?;
    let tunnels = || -> Result<usize> { Ok(fs::read_to_string(&log)?.matches("CONNECT 10.88.0.1:6443").count()) };
    let status = |environment: &[(&str, &str)]| -> Result<()> {
        let output = cluster.command_line_with(environment, &["status"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{environment:?}: {said}");
        ensure!(String::from_utf8_lossy(&output.stdout).contains("docker-hub"), "{environment:?}: nothing is shown");
        Ok(())
    };
    // As people write it, with and without the scheme.
    for (number, proxy) in [format!("http://{ADDRESS}"), ADDRESS.to_string()].iter().enumerate() {
        status(&[("HTTPS_PROXY", proxy)])?;
        ensure!(tunnels()? > number, "{proxy}: the API server was not asked through the proxy");
    }
    // The cluster is one of the exceptions, whatever the proxy's own address is.
    let before = tunnels()?;
    status(&[("https_proxy", DEAD), ("NO_PROXY", "localhost,10.88.0.0/16")])?;
    let through = cluster.command_line_with(&[("HTTPS_PROXY", DEAD), ("NO_PROXY", "10.99.0.0/16")], &["status"])?;
    ensure!(!through.status.success(), "NO_PROXY does not name the cluster: it must be asked through the proxy");
    ensure!(tunnels()? == before, "the proxy was asked although it was not named");
    Ok(())
}
