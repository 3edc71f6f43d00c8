//! The node's passes on real nodes: systemd and containerd, and others who write the same files.
//!
//! Needs root and the test bed: `cargo test -p registry-mirror-agent --test on_nodes -- --ignored --test-threads=1`

#![cfg(test)]

mod changed_since_start;
mod host;
mod mounted;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use host::{
    Stay, WISH, boot, config, identity, only_addition, pass, pass_with, proof_pulls, pulls_through_the_mirror, spec,
    starts,
};
use testbed::wait;

/// A node's bootstrap, Ansible, a GPU toolkit: each writes the file as it knows it.
#[test]
#[ignore = "boots nodes"]
fn a_rewritten_configuration_is_mended_without_a_restart_and_then_left_alone() -> Result<()> {
    let releases = [("old", "1.6.20"), ("mid", "1.7.35"), ("new", "2.4.2")];
    let bed = boot("rewrites", releases.map(|(name, release)| spec(name, release)))?;
    for (name, release) in releases {
        let node = bed.node(name)?;
        let theirs = config(node)?;
        let said = pass(node)?;
        ensure!(said.contains("verdict Ready") && said.contains("effective Yes"), "{release}: {said}");
        ensure!(starts(node)? == 2, "{release}: one start at boot, one of ours");
        let ours = config(node)?;

        // The same bytes as before, and then the file with a line of their own.
        for (again, text) in [(1, theirs.clone()), (2, format!("# written by another program\n{theirs}"))] {
            node.write("/etc/containerd/config.toml", &text)?;
            let said = pass(node)?;
            ensure!(said.contains("verdict Ready") && said.contains("effective Yes"), "{release}, {again}: {said}");
            ensure!(said.contains("drift /etc/containerd/config.toml lost its"), "{release}, {again}: {said}");
            let mended = config(node)?;
            // Every byte of theirs stays as it is, and the key is quoted as they quote.
            let key = only_addition(&text, &mended)?;
            let quote = if theirs.contains('\'') { '\'' } else { '"' };
            let wanted = format!("config_path = {quote}/etc/containerd/certs.d{quote}");
            ensure!(key == wanted, "{release}, {again}: added: {key}");
            ensure!(starts(node)? == 2, "{release}: no restart for it");
            pulls_through_the_mirror(&bed, node)?;
            ensure!(again == 2 || config(node)? == ours, "{release}: the same edit gives the same file");
        }
        // A pass that finds nothing new writes nothing.
        let mended = identity(node)?;
        let said = pass(node)?;
        ensure!(said.contains("verdict Ready") && !said.contains("drift"), "{release}: {said}");
        ensure!(identity(node)? == mended, "{release}: the file was written again");

        // The third time it is theirs.
        node.write("/etc/containerd/config.toml", &theirs)?;
        let said = pass(node)?;
        ensure!(said.contains("verdict Ready") && said.contains("effective Yes"), "{release}: {said}");
        let conflict = said.lines().find(|line| line.starts_with("conflict /etc/containerd/config.toml lost its"));
        // Both times at which it was put back, and until when the mirrors hold.
        let told = |line: &str| line.matches("Z").count() >= 2 && line.contains("until its next start");
        ensure!(conflict.is_some_and(told), "{release}: {said}");
        ensure!(config(node)? == theirs && starts(node)? == 2, "{release}: it was to be left alone");
        pulls_through_the_mirror(&bed, node)?;

        // Their restart takes the mirrors away, and still nobody starts a war.
        node.sh("systemctl restart containerd")?;
        let said = pass(node)?;
        ensure!(said.contains("verdict Unsupported") && said.contains("has restarted since"), "{release}: {said}");
        ensure!(config(node)? == theirs && starts(node)? == 3, "{release}: no restart of ours");
        ensure!(!node.exists("/etc/containerd/.registry-mirror-candidate"), "{release}: a candidate is left");
    }
    Ok(())
}

/// A plan that waits for permission asks containerd for a proof every half minute, however often the host is looked at, and
/// its own files wake nobody.
#[test]
#[ignore = "boots nodes"]
fn a_plan_that_waits_does_not_pull_without_end() -> Result<()> {
    let releases = [("old", "1.6.20"), ("new", "2.4.2")];
    let bed = boot("waits", releases.map(|(name, release)| spec(name, release)))?;
    for (name, release) in releases {
        let node = bed.node(name)?;
        // The key stands in the file and the daemon has not read it: this alone can be told by a pull only.
        pass_with(node, &format!("--permission files {WISH}"))?;
        let before = proof_pulls(node)?;
        let stay = Stay::begin(node, &format!("--permission nobody {WISH}"))?;
        let until_said = |what: &str| {
            wait::until(&format!("{release}: {what}"), Duration::from_secs(20), || {
                Ok(stay.said()?.contains(what).then_some(()))
            })
        };
        until_said("verdict RestartPending")?;
        let watched = Instant::now();
        while watched.elapsed() < Duration::from_secs(4) {
            // One proof is two pulls where the first does not arrive.
            let pulls = proof_pulls(node)? - before;
            ensure!((1..=2).contains(&pulls), "{release}: {pulls} pulls within {:?}", watched.elapsed());
        }
        // A start of the daemon ends the wait: it is asked again at once, and no more after that.
        node.sh("systemctl restart containerd")?;
        until_said("effective Yes")?;
        ensure!(proof_pulls(node)? - before <= 4, "{release}: {} pulls", proof_pulls(node)? - before);
    }
    Ok(())
}

/// A file costs no restart: it goes back always, after pauses that grow. Whoever asks meanwhile hears until when.
#[test]
#[ignore = "boots nodes"]
fn a_hosts_toml_that_is_fought_over_is_put_back_always() -> Result<()> {
    const FILE: &str = "/etc/containerd/certs.d/docker.io/hosts.toml";
    let bed = boot("fight", [spec("node1", "2.4.2")])?;
    let node = bed.node("node1")?;
    ensure!(pass(node)?.contains("verdict Ready"));
    let ours = node.read(FILE)?;
    let upstream = bed.accesses("docker.io")?.len();
    let stay = Stay::begin(node, WISH)?;
    let put_back = |within: Duration| {
        wait::until("hosts.toml put back", within, || {
            Ok(node.exists(FILE).then(|| node.read(FILE)).transpose()?.filter(|found| *found == ours))
        })
    };
    let rounds = [("rm", 0), ("edit", 1), ("rm", 2), ("edit", 4), ("rm", 8)];
    for (change, pause) in rounds {
        match change {
            "rm" => drop(node.sh(&format!("rm {FILE}"))?),
            _ => node.write(FILE, "server = \"https://other.example\"\n")?,
        }
        let changed = Instant::now();
        if pause == 8 {
            // Another process knows of the fight too: its record is on the disk.
            let said = pass(node)?;
            ensure!(said.contains("verdict Contested: ") && said.contains(FILE), "{said}");
            ensure!(said.contains("conflict ") && said.contains("it waits and is put back at"), "{said}");
        }
        put_back(Duration::from_secs(pause + 5))?;
        eprintln!("{change}: put back after {:.1?}, {pause} s at most and the time of a look", changed.elapsed());
        pulls_through_the_mirror(&bed, node)?;
    }
    ensure!(bed.accesses("docker.io")?.len() == upstream, "the upstream was asked while the file stood");
    // In place again the node is Ready, and the conflict is told still.
    wait::until("a node that is Ready", Duration::from_secs(10), || {
        let said = stay.said()?;
        Ok((said.starts_with("verdict Ready") && said.contains("were put back 5 times since")).then_some(()))
    })?;
    ensure!(starts(node)? == 2, "a file costs no restart");
    Ok(())
}

/// A directory that somebody else chose is not fought: files go where the daemon reads them now, and there after its
/// next start.
#[test]
#[ignore = "boots nodes"]
fn another_directory_counts_from_the_next_start_on() -> Result<()> {
    let bed = boot("directory", [spec("node1", "2.1.9")])?;
    let node = bed.node("node1")?;
    pass(node)?;
    let moved = config(node)?.replace("/etc/containerd/certs.d", "/etc/containerd/elsewhere.d");
    node.write("/etc/containerd/config.toml", &moved)?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready") && said.contains("from its next start on"), "{said}");
    ensure!(config(node)? == moved && starts(node)? == 2);
    pulls_through_the_mirror(&bed, node)?;
    node.sh("systemctl restart containerd")?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready") && starts(node)? == 3, "{said}");
    ensure!(node.exists("/etc/containerd/elsewhere.d/docker.io/hosts.toml"));
    pulls_through_the_mirror(&bed, node)
}

#[test]
#[ignore = "boots nodes"]
fn the_right_file_is_found_and_an_unsafe_unit_is_left_alone() -> Result<()> {
    let elsewhere =
        "[Service]\nExecStart=\nExecStart=/usr/local/bin/containerd --log-level info --config /opt/main.toml\n";
    let kills = "[Service]\nKillMode=control-group\n";
    let drop_in = "/etc/systemd/system/containerd.service.d/test.conf";
    let mut moved = spec("moved", "1.7.35").file(drop_in, 0o644, elsewhere);
    moved = moved.file("/opt/main.toml", 0o640, "version = 2\n");
    let bed = boot("units", [moved, spec("kills", "2.0.14").file(drop_in, 0o644, kills)])?;

    let node = bed.node("moved")?;
    let usual = config(node)?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready") && said.contains("/opt/main.toml"), "{said}");
    ensure!(config(node)? == usual, "the file that this containerd does not read is none of ours");
    ensure!(node.sh("stat -c %a /opt/main.toml")?.trim() == "640");
    pulls_through_the_mirror(&bed, node)?;

    let node = bed.node("kills")?;
    let before = config(node)?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Unsupported") && said.contains("KillMode=control-group"), "{said}");
    ensure!(config(node)? == before && starts(node)? == 1, "it was to be left alone");
    Ok(())
}

/// A full /var is no restart that failed: nothing is touched, and once there is room it goes on. What went well is
/// remembered, for it is an example to other nodes.
#[test]
#[ignore = "boots nodes"]
fn a_full_state_directory_refuses_and_touches_nothing() -> Result<()> {
    let bed = boot("full", [spec("node1", "2.4.2")])?;
    let node = bed.node("node1")?;
    let state = "/var/lib/registry-mirror-operator";
    node.sh(&format!("mkdir -p {state} && mount -t tmpfs -o size=64k,mode=700 none {state}"))?;
    // The files are in place before the disk is full: what is left is the restart.
    let said = pass_with(node, &format!("--permission nobody {WISH}"))?;
    ensure!(said.contains("verdict RestartPending"), "{said}");
    node.sh(&format!("cat /dev/zero >{state}/filler 2>/dev/null || true"))?;
    let before = config(node)?;
    let said = pass(node)?;
    ensure!(said.contains("verdict RestartRefused: ") && said.contains("restarts 0"), "{said}");
    ensure!(config(node)? == before && starts(node)? == 1, "it was to be left alone");
    node.sh(&format!("rm {state}/filler"))?;
    let said = pass(node)?;
    ensure!(said.contains("verdict Ready") && said.contains("restarts 1") && said.contains("\nproved "), "{said}");
    ensure!(pass(node)?.contains("\nproved "), "the next process knows it too");
    node.sh(&format!("umount {state}")).map(drop)
}

/// A second containerd, as Docker or K3s bring one along: without a pod to tell, the usual socket is meant; with one
/// that none of them runs, nothing is touched.
#[test]
#[ignore = "boots nodes"]
fn of_two_containerds_the_right_one_is_meant() -> Result<()> {
    let second = "[Service]\nExecStart=/usr/local/bin/containerd --config /etc/second.toml\nKillMode=process\n";
    let config_of_second = "version = 2\nroot = \"/var/lib/containerd/second\"\nstate = \"/run/second\"\n\
        [grpc]\n  address = \"/run/k3s/containerd/containerd.sock\"\n";
    let node = spec("node1", "1.7.35").file("/etc/systemd/system/second.service", 0o644, second);
    let bed = boot("two", [node.file("/etc/second.toml", 0o644, config_of_second)])?;
    let node = bed.node("node1")?;
    node.sh("systemctl start second.service")?;
    wait::until("the second containerd", Duration::from_secs(20), || {
        Ok(node.exec(["test", "-S", "/run/k3s/containerd/containerd.sock"])?.status.success().then_some(()))
    })?;

    let before = config(node)?;
    let said = pass_with(node, "--pod-uid 00000000-0000-0000-0000-000000000000 docker.io=http://10.88.0.1:5000")?;
    ensure!(said.contains("verdict ObserveFailed:") && said.contains("nothing is touched"), "{said}");
    ensure!(config(node)? == before && starts(node)? == 1);

    let said = pass(node)?;
    ensure!(said.contains("verdict Ready") && said.contains("/etc/containerd/config.toml"), "{said}");
    ensure!(node.sh("cat /etc/second.toml")? == config_of_second, "the other one's file is none of ours");
    pulls_through_the_mirror(&bed, node)
}
