//! Recognisable secrets are planted, everything is run, and everything that it prints or writes is searched for them.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{Cluster, MIRROR, MIRROR2, NAMESPACE, Values, until};
use serde_json::{Value, json};
use testbed::{Image, Node, ROBOT};

const PATIENCE: Duration = Duration::from_secs(90);
const DOCKER_PASSWORD: &str = "planted-in-dockerconfigjson-51b7";
const HEADER: &str = "planted-in-a-header-9c20";
const ROTATED: &str = "planted-by-rotation-77aa";
const IN_URL: &str = "planted-in-a-url-e43f";
const IN_KEY: &str = "planted-in-a-broken-key-08d1";
const TWO_LINES: &str = "planted-on-two-lines-c6f2";
const STATE: &str = "/var/lib/registry-mirror-operator";
/// On the nodes: what is searched for, and the objects that commands read there. Outside the directories searched.
const NEEDLES: &str = "/root/needles";
const OBJECTS: &str = "/root/objects.yaml";

pub fn nowhere_else(cluster: &Cluster) -> Result<()> {
    let bed = cluster.bed();
    cluster.fresh(&Values { log_level: "debug", ..Values::default() })?;
    let client_key = fs::read_to_string(bed.mirror_client().key)?;
    let key_line = client_key.lines().nth(1).context("the client's key has no content")?.to_owned();
    let needles = Needles::of(&[ROBOT.1, DOCKER_PASSWORD, HEADER, ROTATED, IN_URL, IN_KEY, TWO_LINES, &key_line]);
    let mut seen = Seen::default();

    // In use, all of them, on real pulls.
    let objects = objects(cluster, &client_key)?;
    bed.apply(&objects)?;
    for name in ["hub", "quay", "ghcr"] {
        cluster.programmed(name, "2/2", PATIENCE)?;
    }
    for (registry, repository, image) in [
        ("harbor", "hub/library/secret", "docker.io/library/secret:1"),
        ("mtls", "secret", "quay.io/secret:1"),
        ("mirror", "secret", "ghcr.io/secret:1"),
    ] {
        bed.push(registry, repository, "1", &Image::filler(image, 1))?;
        for node in cluster.nodes() {
            cluster.pull_anew(node, image)?;
            seen.command(cluster, &["explain", image, "--node", node.name(), "--probe"])?;
            seen.command(cluster, &["explain", image, "--node", node.name(), "--probe", "-o", "json"])?;
        }
    }
    for node in cluster.nodes() {
        on_disk(node, &needles)?;
    }
    offline(cluster, &objects, &needles, &mut seen)?;
    for node in cluster.nodes() {
        on_node(cluster, node, &objects, &mut seen)?;
    }

    // Rotated, to one that is refused: the pull goes on to the upstream.
    bed.apply(&basic_auth("robot", ROTATED))?;
    let form = STANDARD.encode(format!("{}:{ROTATED}", ROBOT.0));
    for node in cluster.nodes() {
        until(&format!("the rotated password on {}", node.name()), PATIENCE, || {
            Ok(cluster.hosts_toml(node, "docker.io")?.is_some_and(|text| text.contains(&form)).then_some(()))
        })?;
        seen.command(cluster, &["explain", "docker.io/library/secret:1", "--node", node.name(), "--probe"])?;
        on_disk(node, &needles)?;
    }

    wrong_ones(cluster, &mut seen)?;
    seen.cluster(cluster)?;
    // Without the operator, by hand.
    cluster.uninstall()?;
    for node in cluster.nodes() {
        by_hand(node, &needles, &mut seen)?;
    }
    seen.nothing_of(&needles)?;
    for node in cluster.nodes() {
        node.run(["rm", "-f", NEEDLES, OBJECTS, "/usr/local/bin/registry-mirror"])?;
    }
    for kind in ["secrets", "configmaps"] {
        let label = "test=secrets";
        bed.kubectl(["delete", kind, "--namespace", NAMESPACE, "-l", label])?;
    }
    cluster.clean()
}

fn object(name: &str, spec: &Value) -> String {
    let mut spec = spec.clone();
    spec["healthCheck"] = json!({"interval": "5s"});
    format!(
        "{}\n---\n",
        json!({"apiVersion": "registry-mirror.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": name}, "spec": spec})
    )
}

fn secret(name: &str, kind: &str, data: &Value) -> String {
    format!(
        "{}\n---\n",
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": data,
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"test": "secrets"}}})
    )
}

fn basic_auth(name: &str, password: &str) -> String {
    secret(name, "kubernetes.io/basic-auth", &json!({"username": ROBOT.0, "password": password}))
}

fn docker_config(host: &str) -> Value {
    let config = json!({"auths": {host: {"username": "u", "password": DOCKER_PASSWORD}}});
    json!({".dockerconfigjson": config.to_string()})
}

fn objects(cluster: &Cluster, client_key: &str) -> Result<String> {
    let bed = cluster.bed();
    let ca = fs::read_to_string(bed.private_ca())?;
    let certificate = fs::read_to_string(bed.mirror_client().certificate)?;
    let tls = json!({"ca": ca});
    let mutual = json!({"ca": ca, "clientCertRef": {"name": "client"}});
    Ok([
        basic_auth("robot", ROBOT.1),
        secret("client", "kubernetes.io/tls", &json!({"tls.crt": certificate, "tls.key": client_key})),
        secret("docker", "kubernetes.io/dockerconfigjson", &docker_config("mirror2.testbed.internal:5001")),
        secret("header", "Opaque", &json!({"value": HEADER})),
        object(
            "hub",
            &json!({"registry": "docker.io", "mirrors": [{"url": "https://harbor.testbed.internal:5004",
                "repositoryPrefix": "hub", "tls": tls, "auth": {"secretRef": {"name": "robot"}}}]}),
        ),
        object(
            "quay",
            &json!({"registry": "quay.io",
                "mirrors": [{"url": "https://mtls.testbed.internal:5003", "tls": mutual}]}),
        ),
        object(
            "ghcr",
            &json!({"registry": "ghcr.io", "mirrors": [
                {"url": MIRROR2, "auth": {"secretRef": {"name": "docker"}}},
                {"url": MIRROR, "headers": [{"name": "X-Tenant", "valueFrom": {"name": "header", "key": "value"}}]},
            ]}),
        ),
    ]
    .concat())
}

/// Objects and Secrets that are refused: what is said of them names no secret.
fn wrong_ones(cluster: &Cluster, seen: &mut Seen) -> Result<()> {
    let bed = cluster.bed();
    let certificate = fs::read_to_string(bed.mirror_client().certificate)?;
    let with_user = object(
        "with-user",
        &json!({"registry": "example.com", "mirrors": [{"url": format!("https://robot:{IN_URL}@m.example.com/?t={IN_URL}")}]}),
    );
    let refused = bed.apply(&with_user).err().context("a url with a password was accepted")?;
    seen.text("kubectl apply of a url with a password", &format!("{refused:#}"));
    let wrong = [
        (
            "lost-host",
            docker_config("elsewhere.example.com"),
            "kubernetes.io/dockerconfigjson",
            json!({"auth": {"secretRef": {"name": "lost-host"}}}),
        ),
        (
            "broken-key",
            json!({"tls.crt": certificate, "tls.key": format!("-----BEGIN PRIVATE KEY-----\n{IN_KEY}\n-----END PRIVATE KEY-----\n")}),
            "kubernetes.io/tls",
            json!({"tls": {"clientCertRef": {"name": "broken-key"}}}),
        ),
        (
            "two-lines",
            json!({"value": format!("{TWO_LINES}\n{TWO_LINES}")}),
            "Opaque",
            json!({"headers": [{"name": "X-Tenant", "valueFrom": {"name": "two-lines", "key": "value"}}]}),
        ),
    ];
    let mut texts = vec![("with-user", with_user)];
    for (name, data, kind, mut mirror) in wrong {
        mirror["url"] = json!("https://m.example.com");
        let text = secret(name, kind, &data)
            + &object(name, &json!({"registry": format!("{name}.example.com"), "mirrors": [mirror]}));
        bed.apply(&text)?;
        until(&format!("the refusal of {name}"), PATIENCE, || {
            let status = bed.kubectl_json(["get", "registrymirror", name])?["status"].to_string();
            Ok(status.contains("\"False\"").then_some(()))
        })?;
        texts.push((name, text));
    }
    for (name, text) in texts {
        let file = bed.state().join(format!("{name}.yaml"));
        fs::write(&file, &text)?;
        let path = file.to_string_lossy().into_owned();
        let out = bed.state().join("rendered").to_string_lossy().into_owned();
        let output =
            cluster.command_line(&["render", "-f", &path, "--containerd-version", "2.4.2", "--output", &out])?;
        ensure!(!output.status.success(), "render accepts {name}");
        seen.output(&format!("render of {name}"), &output);
        fs::remove_file(&file)?;
    }
    Ok(())
}

/// `render` prints paths, and what it writes is for its owner alone.
fn offline(cluster: &Cluster, objects: &str, needles: &Needles, seen: &mut Seen) -> Result<()> {
    let file = cluster.bed().state().join("objects.yaml");
    let directory = cluster.bed().state().join("rendered");
    fs::write(&file, objects)?;
    let (path, out) = (file.to_string_lossy().into_owned(), directory.to_string_lossy().into_owned());
    seen.command(cluster, &["render", "-f", &path, "--containerd-version", "1.6.20", "--output", &out])?;
    seen.command(cluster, &["explain", "docker.io/library/secret:1", "-f", &path, "-o", "yaml"])?;
    seen.command(cluster, &["import", "certs.d", &out, "-o", "table", "--host-root", "/", "--leave-out"]).ok();
    let mut secret_files = 0;
    for registry in fs::read_dir(&directory)? {
        for entry in fs::read_dir(registry?.path())? {
            let entry = entry?;
            let text = String::from_utf8_lossy(&fs::read(entry.path())?).into_owned();
            if needles.first_in(&text).is_some() {
                secret_files += 1;
                let mode = entry.metadata()?.permissions().mode() & 0o7777;
                ensure!(mode == 0o600, "render wrote {} with mode {mode:o}", entry.path().display());
            }
        }
    }
    ensure!(secret_files >= 3, "render wrote {secret_files} files with secrets: three were planted");
    fs::remove_file(&file)?;
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// The commands that root runs on a node.
fn on_node(cluster: &Cluster, node: &Node, objects: &str, seen: &mut Seen) -> Result<()> {
    node.install_program(cluster.binary(), "registry-mirror")?;
    node.write(OBJECTS, objects)?;
    for output in ["table", "json", "yaml"] {
        let said = node.exec(["registry-mirror", "node", "plan", "-f", OBJECTS, "-o", output])?;
        seen.output(&format!("node plan -o {output} on {}", node.name()), &said);
    }
    let explained = ["registry-mirror", "explain", "quay.io/secret:1", "--host-root", "/", "--probe", "-o", "yaml"];
    seen.output("explain on the node", &node.exec(explained)?);
    Ok(())
}

/// `node apply` and `node restore`, which need no cluster.
fn by_hand(node: &Node, needles: &Needles, seen: &mut Seen) -> Result<()> {
    let mut run = |verb: &str, more: &[&str]| -> Result<Value> {
        let said = node.exec([&["registry-mirror", "node", verb, "-o", "json"], more].concat())?;
        seen.output(&format!("node {verb} on {}", node.name()), &said);
        let err = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.status.success(), "node {verb} failed on {}: {err}", node.name());
        serde_json::from_slice(&said.stdout).with_context(|| format!("node {verb} printed no JSON: {err}"))
    };
    let applied = run("apply", &["-f", OBJECTS])?;
    ensure!(
        applied["proved"] == "/etc/containerd/certs.d" && applied["errors"] == json!([]),
        "node apply says {applied}"
    );
    on_disk(node, needles)?;
    let restored = run("restore", &["--exact"])?;
    ensure!(restored["byHand"] == json!([]), "node restore says {restored}");
    Ok(())
}

/// Every file of the node's that holds a secret is root's alone.
fn on_disk(node: &Node, needles: &Needles) -> Result<()> {
    node.write(NEEDLES, needles.lines())?;
    let listed = node.sh(&format!(
        "find /etc/containerd {STATE} /run -xdev -type f -size -8192k -exec grep -lFf {NEEDLES} {{}} + 2>/dev/null \
         | xargs -r stat -c '%a %u %n'; echo state; find {STATE} -type f -exec stat -c '%a %u %n' {{}} +"
    ))?;
    let (with_secrets, state) = listed.split_once("state\n").context("the node's files cannot be listed")?;
    for path in ["docker.io/hosts.toml", "ghcr.io/hosts.toml", "quay.io/"] {
        ensure!(with_secrets.contains(path), "{path} on {} holds no secret: {listed}", node.name());
    }
    for line in with_secrets.lines().chain(state.lines()) {
        ensure!(line.starts_with("600 0 "), "not root's alone on {}: {line}", node.name());
    }
    Ok(())
}

/// All that was printed, with where.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn text(&mut self, place: &str, text: &str) {
        self.0.push((place.to_owned(), text.to_owned()));
    }

    fn output(&mut self, place: &str, output: &std::process::Output) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.text(place, &format!("{}{}", text(&output.stdout), text(&output.stderr)));
    }

    /// A command of the operator's; what it prints counts, whether it succeeds or not.
    fn command(&mut self, cluster: &Cluster, args: &[&str]) -> Result<()> {
        let output = cluster.command_line(args)?;
        let place = args.join(" ");
        ensure!(!output.stdout.is_empty(), "`{place}` printed nothing: {}", String::from_utf8_lossy(&output.stderr));
        self.output(&place, &output);
        Ok(())
    }

    /// What the API server and the nodes have of it, but for the Secrets.
    fn cluster(&mut self, cluster: &Cluster) -> Result<()> {
        let bed = cluster.bed();
        for output in ["table", "json", "yaml"] {
            self.command(cluster, &["status", "-o", output])?;
        }
        let kinds = "registrymirrors,nodemirrors,events,configmaps,pods,leases,daemonsets,deployments";
        let yaml = bed.kubectl(["get", kinds, "--all-namespaces", "--show-managed-fields", "-o", "yaml"])?;
        ensure!(yaml.contains("kind: NodeMirror") && yaml.contains("kind: Event"), "kubectl get shows too little");
        self.text("kubectl get -o yaml", &yaml);
        self.text("kubectl describe", &bed.kubectl(["describe", "registrymirrors,nodemirrors"])?);
        for component in ["controller", "agent"] {
            let selector = format!("app.kubernetes.io/component={component}");
            let log = bed.kubectl(["logs", "--namespace", NAMESPACE, "--tail=-1", "-l", &selector])?;
            ensure!(log.contains("DEBUG"), "the log of the {component} is not at debug level:\n{log}");
            self.text(&format!("log of the {component}"), &log);
        }
        for node in cluster.nodes() {
            // The agent listens on the node's loopback alone.
            let asked = r"exec 3<>/dev/tcp/127.0.0.1/19464; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3";
            let metrics = node.run(["bash", "-c", asked])?;
            ensure!(metrics.contains("# HELP"), "the agent's metrics on {} are {metrics}", node.name());
            self.text(&format!("metrics of the agent on {}", node.name()), &metrics);
            self.text(&format!("journal of {}", node.name()), &node.sh("journalctl --boot --no-pager")?);
        }
        Ok(())
    }

    fn nothing_of(&self, needles: &Needles) -> Result<()> {
        for (place, text) in &self.0 {
            if let Some((at, form)) = needles.first_in(text) {
                let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let line = text[from..].lines().next().unwrap_or_default();
                anyhow::bail!("{place} shows a secret ({form}): {line}");
            }
        }
        let bytes: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        eprintln!("{} texts with {bytes} bytes searched", self.0.len());
        Ok(())
    }
}

/// Secrets, in each form in which they may come to light.
struct Needles(Vec<String>);

impl Needles {
    /// As they are, and as base64 wherever they begin within a text that was encoded.
    fn of(secrets: &[&str]) -> Self {
        let encoded = |secret: &str, before: usize| {
            let text = [&vec![b'x'; before], secret.as_bytes()].concat();
            let code = STANDARD.encode(text);
            // Characters that carry bits of what stands before or behind differ.
            code[(before * 8).div_ceil(6)..code.len() - 4].to_owned()
        };
        Self(
            secrets
                .iter()
                .flat_map(|secret| {
                    (0..3).map(|before| encoded(secret, before)).chain([(*secret).to_owned()]).collect::<Vec<_>>()
                })
                .collect(),
        )
    }

    fn first_in(&self, text: &str) -> Option<(usize, &str)> {
        self.0.iter().find_map(|form| Some((text.find(form)?, form.as_str())))
    }

    fn lines(&self) -> String {
        self.0.join("\n") + "\n"
    }
}
