//! What others configured: registries.yaml, daemon.json, a certs.d tree, old tables of config.toml.

use std::path::{Path, PathBuf};

use registry_mirror_core::{
    config_toml::{self, MapSource},
    import::{self, Imported, RegistryFile},
};

use crate::{daemon, progress::Progress, secret::Watch};

const NAMESPACE: &str = "registry-mirror-system";

static PROGRESS: Progress = Progress::new(["inputs", "read", "with objects"]);

/// The daemon by the first byte, the format by the second (`k`3s, `d`ocker, `h`osts.toml, `c`onfig.toml), then the text.
///
/// # Panics
/// A secret is shown outside of the Secret objects.
pub fn check(data: &[u8]) {
    let Some((version, rest)) = daemon::split(data) else { return };
    let Some((format, text)) = rest.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    PROGRESS.reached(0);
    let files = MapSource::new().with("/ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let watch = Watch::over([text], if *format == b'k' { ':' } else { '=' });
    let imported = match format {
        b'k' => import::k3s(text, &files, NAMESPACE).map_err(|error| error.to_string()),
        b'd' => import::docker(text, NAMESPACE).map_err(|error| error.to_string()),
        b'h' => {
            let (directory, text) = text.split_once('\n').unwrap_or(("docker.io", text));
            let path = PathBuf::from(format!("/certs.d/{}/hosts.toml", directory.replace('/', "_")));
            let file = RegistryFile { directory: directory.to_owned(), path, text: text.to_owned() };
            import::certs_d(&[file], version, &files, NAMESPACE).map_err(|error| error.to_string())
        }
        b'c' => {
            let source = files.with("/config.toml", text);
            match config_toml::load(Path::new("/config.toml"), version, &source) {
                Ok(config) => import::containerd(&config, &source, NAMESPACE).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
        _ => return,
    };
    match imported {
        Ok(Imported { mirrors, secrets, left_out, remarks }) => {
            PROGRESS.reached(1);
            if !mirrors.is_empty() {
                PROGRESS.reached(2);
            }
            let objects = serde_json::to_string(&mirrors).expect("objects are JSON");
            watch.check("a RegistryMirror", &objects);
            watch.check("a hint", &left_out.join("\n"));
            remarks.iter().for_each(|remark| watch.check("a remark", &remark.to_string()));
            serde_json::to_string(&secrets).expect("Secrets are JSON");
        }
        Err(error) => watch.check("an error", &error),
    }
}
