use std::fs;

use registry_mirror_core::plan::shared::ABSENCE;

use super::*;
use crate::files::WriteScope;

const CERTS_D: &str = "/etc/containerd/certs.d";
const OLD: Version = Version::new(1, 6, 20);
const NEW: Version = Version::new(2, 4, 2);

/// Nodes that see the same directory beneath roots of their own, as containers with a bind mount do. A symlink stands
/// for the mount here, and is read as one because the other nodes' records are in it.
struct Nodes {
    dir: tempfile::TempDir,
}

impl Nodes {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(dir.path().join("etc/containerd/certs.d")).expect("mkdir");
        Self { dir }
    }

    /// A root with the name of the node; one directory serves all, because a root cannot reach another one's files.
    fn writer(&self, node: &str) -> HostWriter {
        fs::write(self.dir.path().join("etc/hostname"), format!("{node}\n")).expect("write");
        let root = HostRoot::open(self.dir.path()).expect("open");
        HostWriter::new(root, WriteScope::of([Path::new(CERTS_D)]))
    }

    fn share(&self, node: &str, release: Version) -> (HostWriter, Share) {
        let writer = self.writer(node);
        let mut share = Share::join(&writer, Path::new(CERTS_D)).expect("joins");
        share.announce(&writer, release).expect("announces");
        (writer, share)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("etc/containerd/certs.d").join(DIRECTORY).join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("")).expect("list");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn told(node: &str) -> OwnerRecord {
    OwnerRecord::new(node.to_owned(), CERTS_D.into(), OLD, BTreeMap::new())
}

#[test]
fn an_ordinary_directory_is_nobody_elses() {
    let nodes = Nodes::new();
    let writer = nodes.writer("one");
    assert!(!may_be_shared(writer.root(), Path::new("/etc/absent")).expect("readable"));
    assert!(!may_be_shared(writer.root(), Path::new(CERTS_D)).expect("readable"));
    let _one = nodes.share("one", NEW);
    assert!(may_be_shared(writer.root(), Path::new(CERTS_D)).expect("readable"), "somebody's record is there");
}

/// As root alone; the test of real nodes sees it with real bind mounts.
#[test]
fn a_mount_of_its_own_may_be_shared() {
    let root = HostRoot::open(Path::new("/")).expect("open");
    assert!(may_be_shared(&root, Path::new("/proc")).expect("readable"), "/proc is a mount of its own everywhere");
    assert!(root.mount(Path::new("/")).expect("readable").is_some(), "the kernel numbers mounts");
}

#[test]
fn one_writes_and_another_takes_over() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one", NEW);
    let (second, mut two) = nodes.share("two", OLD);
    assert!(one.owns(&first).expect("lock") && one.owns(&first).expect("lock again"));
    assert!(!two.owns(&second).expect("lock"));
    assert_eq!(one.count(&first, NEW).expect("readable").readers.oldest, OLD);
    one.tell(&first, &told("one")).expect("write");
    assert!(!two.owns(&second).expect("lock"));
    nodes.writer("two");
    let another = written_by_another(second.root(), Path::new(CERTS_D)).expect("readable");
    assert_eq!(another.map(|record| record.node).as_deref(), Some("one"));

    drop(one);
    assert!(two.owns(&second).expect("lock"), "free when its holder is gone");
    let census = two.count(&second, OLD).expect("readable");
    assert!(census.has_neighbours, "its containerd may run on");
    let noted = fs::read_to_string(nodes.path("node-one.json")).expect("readable");
    assert!(noted.contains("absentSince"), "{noted}");
    // And its agent is back, with another containerd.
    let (first, mut one) = nodes.share("one", Version::new(2, 0, 14));
    assert!(!one.owns(&first).expect("lock"));
    let noted = fs::read_to_string(nodes.path("node-one.json")).expect("readable");
    assert!(noted.contains("2.0.14") && !noted.contains("absentSince"), "{noted}");
}

#[test]
fn an_idle_share_writes_nothing() {
    let nodes = Nodes::new();
    let (writer, mut one) = nodes.share("one", NEW);
    let _two = nodes.share("two", OLD);
    let written = |name: &str| fs::metadata(nodes.path(name)).expect("there").modified().expect("known");
    one.owns(&writer).expect("lock");
    one.count(&writer, NEW).expect("readable");
    one.tell(&writer, &told("one")).expect("write");
    let before: Vec<_> = nodes.names().iter().map(|name| written(name)).collect();
    one.announce(&writer, NEW).expect("announces");
    assert!(one.owns(&writer).expect("lock"));
    one.count(&writer, NEW).expect("readable");
    assert_eq!(one.tell(&writer, &told("one")), Ok(Written::Unchanged));
    assert_eq!(nodes.names().iter().map(|name| written(name)).collect::<Vec<_>>(), before);
}

#[test]
fn a_lock_on_a_removed_file_gives_no_right() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one", NEW);
    let (second, mut two) = nodes.share("two", NEW);
    assert!(one.owns(&first).expect("lock"));
    fs::remove_dir_all(nodes.path("")).expect("somebody removes it");
    two.announce(&second, NEW).expect("makes it anew");
    assert!(two.owns(&second).expect("lock"));
    one.announce(&first, NEW).expect("joins again");
    assert!(!one.owns(&first).expect("lock"), "noticed at the next pass");
}

#[test]
fn by_hand_beside_the_agent_that_writes() {
    let nodes = Nodes::new();
    let (writer, mut agent) = nodes.share("one", NEW);
    assert!(agent.owns(&writer).expect("lock"));
    agent.tell(&writer, &told("one")).expect("write");
    let (writer, mut by_hand) = nodes.share("one", NEW);
    assert!(by_hand.owns(&writer).expect("lock"), "it holds the host's lock");
    let (other, mut two) = nodes.share("two", NEW);
    assert!(!two.owns(&other).expect("lock"));
}

#[test]
fn a_node_that_is_away_for_a_day_is_forgotten() {
    let nodes = Nodes::new();
    let (writer, mut one) = nodes.share("one", NEW);
    assert!(one.owns(&writer).expect("lock"));
    let since = Timestamp::now() - ABSENCE;
    let mut record = NodeRecord::new(OLD);
    record.absent_since = Some(since);
    fs::write(nodes.path("node-gone.json"), record.to_json()).expect("write");
    assert_eq!(one.count(&writer, NEW).expect("readable").readers.oldest, NEW);
    assert_eq!(nodes.names(), ["node-one.json", "node-one.lock", "owner.lock"]);
}

#[test]
fn the_last_one_leaves_nothing_behind() {
    let nodes = Nodes::new();
    let certs_d = Path::new(CERTS_D);
    let (first, mut one) = nodes.share("one", NEW);
    let (second, two) = nodes.share("two", NEW);
    assert!(one.owns(&first).expect("lock"));
    one.tell(&first, &told("one")).expect("write");
    drop(one);
    nodes.writer("one");
    match leave(&first, certs_d, Staying::Running).expect("leaves") {
        Leaving::Stay(nodes) => assert_eq!(nodes, ["two"]),
        Leaving::Last(_) => panic!("the other one still needs the files"),
    }
    drop(two);
    nodes.writer("two");
    let Leaving::Last(farewell) = leave(&second, certs_d, Staying::Recorded).expect("leaves") else {
        panic!("nobody is left")
    };
    let proof = nodes.dir.path().join("etc/containerd/certs.d/127.7.8.9_1_");
    fs::create_dir(&proof).expect("a proof that was cut off");
    fs::write(proof.join("hosts.toml"), "# registry-mirror-operator: a self-test, removed within seconds.\n")
        .expect("write");
    let foreign = nodes.dir.path().join("etc/containerd/certs.d/127.0.0.1_1_");
    fs::create_dir(&foreign).expect("mkdir");
    fs::write(foreign.join("hosts.toml"), "server = \"http://127.0.0.1:1\"\n").expect("write");
    farewell.complete(&second).expect("removes");
    let left: Vec<_> = fs::read_dir(nodes.dir.path().join("etc/containerd/certs.d")).expect("list").collect();
    assert_eq!(left.len(), 1, "what is not ours stays: {left:?}");
    assert!(foreign.join("hosts.toml").exists());
}

/// Agents that have ended do not keep the files when all nodes are put back; by hand they do.
#[test]
fn who_is_away_keeps_the_files_from_one_node_alone() {
    let nodes = Nodes::new();
    let certs_d = Path::new(CERTS_D);
    let (writer, one) = nodes.share("one", NEW);
    drop(nodes.share("two", NEW));
    drop(one);
    nodes.writer("one");
    assert!(matches!(leave(&writer, certs_d, Staying::Recorded).expect("leaves"), Leaving::Stay(_)));
    assert!(matches!(leave(&writer, certs_d, Staying::Running).expect("leaves"), Leaving::Last(_)));
}

#[test]
fn the_hosts_own_name() {
    let nodes = Nodes::new();
    let name = |text: &str| node_name(nodes.writer(text).root()).expect("readable");
    assert_eq!(name("kind-worker"), "kind-worker");
    assert_eq!(name("../etc"), "unnamed", "it becomes part of a file's name");
    fs::write(nodes.dir.path().join("etc/machine-id"), "0123\n").expect("write");
    assert_eq!(name(""), "0123");
}
