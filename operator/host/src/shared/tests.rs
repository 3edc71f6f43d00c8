use super::*;
use crate::files::WriteScope;

const CERTS_D: &str = "/etc/containerd/certs.d";

/// Nodes that see the same directory beneath roots of their own, as containers with a bind mount do.
struct Nodes {
    dir: tempfile::TempDir,
}

impl Nodes {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(dir.path().join("etc/containerd/certs.d")).expect("mkdir");
        Self { dir }
    }

    /// A root with the names of the node; one directory serves all, because a root cannot reach another one's files.
    fn writer(&self, node: &str) -> HostWriter {
        fs::write(self.dir.path().join("etc/machine-id"), format!("id-of-{node}\n")).expect("write");
        fs::write(self.dir.path().join("etc/hostname"), format!("{node}\n")).expect("write");
        let root = HostRoot::open(self.dir.path()).expect("open");
        HostWriter::new(root, WriteScope::of([Path::new(CERTS_D)]))
    }

    fn share(&self, node: &str) -> (HostWriter, Share) {
        let writer = self.writer(node);
        let share = Share::join(&writer, Path::new(CERTS_D)).expect("joins");
        (writer, share)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("etc/containerd/certs.d").join(DIRECTORY).join(name)
    }

    fn leave(&self, node: &str) -> Leaving {
        leave(self.writer(node).root(), Path::new(CERTS_D)).expect("leaves")
    }
}

fn writes(waiting: &[&str]) -> Role {
    Role::Writer { waiting: waiting.iter().map(|node| (*node).to_owned()).collect() }
}

fn stands_by(writer: &str) -> Role {
    Role::StandBy { writer: writer.to_owned() }
}

#[test]
fn an_ordinary_directory_is_nobody_elses() {
    let nodes = Nodes::new();
    let writer = nodes.writer("one");
    let mut share = None;
    assert_eq!(take_role(&mut share, &writer, Path::new(CERTS_D)), Ok(Role::Alone));
    assert_eq!(role_now(writer.root(), Path::new("/etc/absent/certs.d")), Ok(Role::Alone));
    assert!(share.is_none() && !nodes.path("").exists(), "nothing is written");
}

/// The kernel's own numbers and list: `/proc/sys` and the like are mounts, but no part of a file system is.
#[test]
fn a_whole_file_system_is_not_shared() {
    let root = HostRoot::open(Path::new("/")).expect("open");
    assert_eq!(may_be_shared(&root, Path::new("/proc")), Ok(false));
    assert!(root.mount(Path::new("/")).expect("readable").is_some(), "the kernel numbers mounts");
}

#[test]
fn one_writes_and_another_takes_over() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one");
    assert_eq!(one.role(&first), Ok(writes(&[])));
    let (second, mut two) = nodes.share("two");
    assert_eq!(two.role(&second), Ok(stands_by("node one")));
    assert_eq!(one.role(&first), Ok(writes(&["node two"])), "it keeps the right");
    assert_eq!(two.role(&second), Ok(stands_by("node one")));

    drop(one);
    assert_eq!(two.role(&second), Ok(writes(&[])), "free when its holder is gone, who does not count any more");
    let (first, mut one) = nodes.share("one");
    assert_eq!(one.role(&first), Ok(stands_by("node two")));
}

#[test]
fn an_idle_share_writes_nothing() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one");
    let (second, mut two) = nodes.share("two");
    let mut pass = || (one.role(&first).expect("a role"), two.role(&second).expect("a role"));
    let times = || -> Vec<_> {
        let entries = fs::read_dir(nodes.path("")).expect("list").map(|entry| entry.expect("entry"));
        entries.map(|entry| (entry.file_name(), entry.metadata().expect("there").modified().expect("known"))).collect()
    };
    pass();
    let before = times();
    pass();
    assert_eq!((before.len(), times()), (3, before));
}

#[test]
fn a_lock_on_a_removed_file_gives_no_right() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one");
    assert_eq!(one.role(&first), Ok(writes(&[])));
    fs::remove_dir_all(nodes.path("")).expect("somebody removes it");
    let (second, mut two) = nodes.share("two");
    assert_eq!(two.role(&second), Ok(writes(&[])));
    assert_eq!(one.role(&first), Ok(stands_by("node two")), "noticed at the next pass");
}

#[test]
fn by_hand_beside_the_agent_that_writes() {
    let nodes = Nodes::new();
    let (first, mut agent) = nodes.share("one");
    assert_eq!(agent.role(&first), Ok(writes(&[])));
    let (first, mut by_hand) = nodes.share("one");
    assert_eq!(by_hand.role(&first), Ok(writes(&[])), "it holds the host's lock");
    assert!(matches!(nodes.leave("one"), Leaving::Last(_)));
    let (second, mut two) = nodes.share("two");
    assert_eq!(two.role(&second), Ok(stands_by("node one")));
}

/// A node is known by its machine id: another host name makes it no other node.
#[test]
fn a_new_host_name_changes_nothing() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one");
    assert_eq!(one.role(&first), Ok(writes(&[])));
    fs::write(nodes.dir.path().join("etc/hostname"), "renamed\n").expect("write");
    assert_eq!(one.role(&first), Ok(writes(&[])));
    assert_eq!(neighbours(first.root(), Path::new(CERTS_D)), Ok(Vec::new()));
    assert!(matches!(leave(first.root(), Path::new(CERTS_D)), Ok(Leaving::Last(_))));
}

#[test]
fn the_last_one_leaves_nothing_behind() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one");
    assert_eq!(one.role(&first), Ok(writes(&[])));
    let (second, mut two) = nodes.share("two");
    assert_eq!(one.role(&first), Ok(writes(&[])), "who has only opened its file does not count");
    assert_eq!(two.role(&second), Ok(stands_by("node one")));
    drop(one);
    match nodes.leave("one") {
        Leaving::Stay(nodes) => assert_eq!(nodes, ["node two"]),
        Leaving::Last(_) => panic!("the other one still needs the files"),
    }
    assert_eq!(is_last(nodes.writer("one").root(), Path::new(CERTS_D)), Ok(false));
    drop(two);
    assert_eq!(is_last(nodes.writer("two").root(), Path::new(CERTS_D)), Ok(true));
    let Leaving::Last(farewell) = nodes.leave("two") else { panic!("nobody is left") };
    let certs_d = nodes.dir.path().join("etc/containerd/certs.d");
    let proof = certs_d.join("127.7.8.9_1_");
    fs::create_dir(&proof).expect("a proof that was cut off");
    fs::write(proof.join("hosts.toml"), "# registry-mirror-operator: a self-test, removed within seconds.\n")
        .expect("write");
    let foreign = certs_d.join("127.0.0.1_1_");
    fs::create_dir(&foreign).expect("mkdir");
    fs::write(foreign.join("hosts.toml"), "server = \"http://127.0.0.1:1\"\n").expect("write");
    farewell.complete(&second).expect("removes");
    let left: Vec<_> = fs::read_dir(certs_d).expect("list").collect();
    assert_eq!(left.len(), 1, "what is not ours stays: {left:?}");
    assert!(foreign.join("hosts.toml").exists());
}

/// One of two that leave at the same moment removes the files, and not both.
#[test]
fn two_leave_at_once() {
    let nodes = Nodes::new();
    let (first, mut one) = nodes.share("one");
    one.role(&first).expect("a role");
    drop(one);
    let Leaving::Last(farewell) = nodes.leave("one") else { panic!("nobody is left") };
    assert!(matches!(nodes.leave("two"), Leaving::Stay(_)), "the other one is at it");
    drop(farewell);
    assert!(matches!(nodes.leave("two"), Leaving::Last(_)));
}

#[test]
fn a_nodes_name_among_the_others() {
    let nodes = Nodes::new();
    let writer = nodes.writer("kind-worker");
    let id = || node_id(writer.root()).expect("readable");
    assert_eq!(id(), "id-of-kind-worker");
    let write = |file: &str, text: &str| fs::write(nodes.dir.path().join("etc").join(file), text).expect("write");
    write("machine-id", "");
    assert_eq!(id(), "kind-worker");
    write("hostname", "../etc\n");
    assert_eq!(id(), "unnamed", "it becomes part of a file's name");
}
