//! Whatever others write, the compiler answers with a verdict.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::{
    CompileOptions, References, compile, credentials, pem,
    tests::{PLANTED, object, secret},
    url::HostUrl,
};

proptest! {
    /// What comes out of the parser goes in again and stays itself.
    #[test]
    fn a_parsed_url_is_its_own_text(scheme in "https?", host in "[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", port in prop::option::of(1..=u16::MAX), path in "(/[a-zA-Z0-9._~%-]{1,8}){0,3}/?") {
        let text = format!("{scheme}://{host}{}{path}", port.map(|port| format!(":{port}")).unwrap_or_default());
        if let Ok(url) = HostUrl::parse(&text) {
            prop_assert_eq!(HostUrl::parse(&url.to_string()), Ok(url));
        }
    }

    /// No message shows a password, whatever else is wrong with the url.
    #[test]
    fn no_message_shows_a_password(before in "[a-z:/.]{0,8}", after in "\\PC{0,12}") {
        let text = format!("https://{before}:pl4nted@{after}");
        if let Err(message) = HostUrl::parse(&text) {
            prop_assert!(!message.contains(PLANTED), "{}", message);
        }
    }

    /// Bytes of others never end the controller.
    #[test]
    fn anything_may_stand_in_a_secret(text in "\\PC{0,80}", key in "(tls.crt|tls.key|username|password|.dockerconfigjson|ca.crt)") {
        let _ = pem::authorities(&text);
        let _ = pem::private_key(&format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----"));
        let mut references = References::default();
        secret(&mut references, "robot", &[(&key, &text)]);
        let object = object("a", "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: robot}}, tls: {clientCertRef: {name: robot}, caRef: {name: robot}}}]");
        let compiled = compile([&object], &references, &CompileOptions::default());
        prop_assert!(!compiled.verdicts["a"].is_good());
    }

    /// A docker configuration with one entry for the host is used however its key is written.
    #[test]
    fn credentials_come_through(user in "[a-zA-Z0-9$+_-]{1,12}", password in "[ -~]{1,20}", form in 0..4_usize) {
        let key = ["m.example.com", "https://m.example.com", "https://m.example.com/v2/", "m.example.com:443"][form];
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let json = serde_json::json!({"auths": {key: {"auth": auth}}}).to_string();
        let mut references = References::default();
        secret(&mut references, "robot", &[(".dockerconfigjson", &json)]);
        let object = object("a", "mirrors: [{url: https://m.example.com, auth: {secretRef: {name: robot}}}]");
        let compiled = compile([&object], &references, &CompileOptions::default());
        let header = &compiled.bundle.entries[0].mirrors[0].headers[0];
        prop_assert_eq!(header.values[0].reveal(), format!("Basic {auth}"));
    }

    #[test]
    fn a_pattern_matches_what_it_was_made_of(host in "[a-z]{1,6}(\\.[a-z]{1,6}){0,3}") {
        let url = HostUrl::parse(&format!("https://{host}")).expect("a url");
        let star = host.split('.').map(|label| format!("{}*", &label[..1])).collect::<Vec<_>>().join(".");
        prop_assert!(credentials::matches_pattern(&star, &url));
    }
}
