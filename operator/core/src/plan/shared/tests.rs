use super::*;

const HERE: &str = "/etc/containerd/certs.d";

fn seen(mountinfo: &str, certs_d: &str) -> bool {
    seen_from("/", mountinfo, certs_d)
}

/// The longest mount point that holds the directory is the mount that it lies on.
fn seen_from(host_root: &str, mountinfo: &str, certs_d: &str) -> bool {
    let host_path = Path::new(host_root).join(certs_d.trim_start_matches('/'));
    let mounts = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let own = mounts.filter(|fields| host_path.starts_with(fields[4])).max_by_key(|fields| fields[4].len());
    let mount = own.expect("a root").first().and_then(|id| id.parse().ok()).expect("a number");
    may_be_shared(mountinfo, Path::new(host_root), mount, Path::new(certs_d))
}

#[test]
fn an_ordinary_node() {
    let mounts = "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                  95 28 254:16 / /var/lib rw,relatime shared:40 - ext4 /dev/vdb rw";
    assert!(!seen(mounts, HERE));
}

/// The directory itself, or all of containerd's configuration.
#[test]
fn kind_with_extra_mounts() {
    let kind = |point: &str| {
        format!(
            "912 740 0:61 / / rw,relatime - overlay overlay rw,lowerdir=/l\n\
             930 912 259:2 /var/lib/docker/volumes/0f3c/_data /var rw,relatime - ext4 /dev/nvme0n1p2 rw\n\
             951 912 259:2 /home/me/mirrors {point} rw,relatime - ext4 /dev/nvme0n1p2 rw"
        )
    };
    assert!(seen(&kind(HERE), HERE));
    assert!(seen(&kind("/etc/containerd"), HERE));
    let k3d = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";
    assert!(seen(&kind(k3d), k3d));
    assert!(!seen(&kind("/etc/kubernetes"), HERE));
}

/// The agent's pod has the host's root, with all that is mounted below, in `/host`.
#[test]
fn kind_seen_from_the_agents_pod() {
    let pod = "1301 1200 0:90 / / rw,relatime - overlay overlay rw,lowerdir=/l\n\
               1330 1301 0:61 / /host rw,relatime - overlay overlay rw,lowerdir=/l\n\
               1344 1330 259:2 /home/me/mirrors /host/etc/containerd/certs.d rw,relatime - ext4 /dev/nvme0n1p2 rw";
    assert!(seen_from("/host", pod, HERE));
    assert!(!seen_from("/host", &pod.lines().take(2).collect::<Vec<_>>().join("\n"), HERE));
}

#[test]
fn a_bind_mount_of_etc() {
    let mounts = "28 1 254:1 / / ro,relatime shared:1 - squashfs /dev/vda1 ro\n\
                  61 28 254:2 /overlay/etc /etc rw,relatime shared:9 - ext4 /dev/vda2 rw";
    assert!(!seen(mounts, HERE));
}

#[test]
fn an_overlay_of_etc() {
    let mounts = "28 1 254:1 / / ro,relatime shared:1 - btrfs /dev/vda1 ro\n\
                  61 28 0:44 / /etc rw,relatime shared:9 - overlay overlay rw,lowerdir=/sysroot/etc";
    assert!(!seen(mounts, HERE));
}

#[test]
fn k3s_with_its_data_on_a_disk_of_its_own() {
    let data = "/var/lib/rancher/k3s";
    let mounts = format!(
        "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
         77 28 254:16 / {data} rw,relatime shared:30 - ext4 /dev/vdb rw\n\
         78 28 254:17 /k3s /srv/k3s rw,relatime shared:31 - ext4 /dev/vdc rw"
    );
    assert!(!seen(&mounts, &format!("{data}/agent/etc/containerd/certs.d")));
    assert!(!seen(&mounts, "/srv/k3s/agent/etc/containerd/certs.d"), "a bind mount of it");
}

#[test]
fn a_file_system_of_its_own_is_this_nodes() {
    let mounts = "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                  61 28 0:44 / /etc/containerd rw,relatime shared:9 - tmpfs tmpfs rw";
    assert!(!seen(mounts, HERE));
}

#[test]
fn what_the_kernel_does_not_tell_is_not_shared() {
    assert!(!may_be_shared("", Path::new("/"), 7, Path::new(HERE)));
    assert!(!may_be_shared("7 1 254:1", Path::new("/"), 7, Path::new(HERE)));
}
