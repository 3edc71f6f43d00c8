//! The config.toml that a node has before the operator comes: as usual clusters ship it, without `config_path`.

/// Configuration files that a node may start with.
#[must_use]
pub fn for_version(containerd: &str) -> String {
    match (containerd.starts_with("1."), ["2.0.", "2.1.", "2.2."].iter().any(|line| containerd.starts_with(line))) {
        (true, _) => KIND.to_owned(),
        (_, true) => newer(3),
        (_, false) => newer(4),
    }
}

/// As KinD ships it, with each release. `restrict_oom_score_adj` is not KinD's: the machine may withhold CAP_SYS_RESOURCE,
/// and then no pod starts without it.
pub(crate) const KIND: &str = r#"version = 2

[plugins."io.containerd.grpc.v1.cri".containerd]
  # save disk space when using a single snapshotter
  discard_unpacked_layers = true
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri"]
  # allow hugepages controller to be missing
  tolerate_missing_hugetlb_controller = true
  restrict_oom_score_adj = true
"#;

/// From containerd 2.0, where the CRI plugin is two: images and runtime.
fn newer(version: u8) -> String {
    format!(
        r#"version = {version}

# Set up by the image build of these nodes.
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'

[plugins.'io.containerd.cri.v1.runtime']
  # allow hugepages controller to be missing
  tolerate_missing_hugetlb_controller = true
  restrict_oom_score_adj = true

  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_releases_gets_the_newest_form_it_reads() {
        for (containerd, version) in
            [("1.6.20", 2), ("1.7.35", 2), ("2.0.14", 3), ("2.2.9", 3), ("2.3.7", 4), ("2.4.2", 4)]
        {
            let text = for_version(containerd);
            assert!(text.starts_with(&format!("version = {version}\n")), "{containerd}: {text}");
            assert!(!text.contains("config_path") && text.contains("restrict_oom_score_adj = true"));
        }
    }
}
