//! Many objects become one bundle.

use std::{hint::black_box, io::Write as _};

use anyhow::{Result, ensure};
use bench::Table;
use flate2::{Compression, write::GzEncoder};
use registry_mirror_core::{
    bundle::pack,
    compile::{CompileOptions, RefKind, Reference, References, compile},
};
use registry_mirror_crds::RegistryMirror;
use serde_json::json;

use crate::clock::{milliseconds, repeated};

pub fn measure(table: &mut Table) -> Result<()> {
    for count in [10, 100, 1000] {
        let objects: Vec<RegistryMirror> = (0..count).map(object).collect::<Result<_>>()?;
        let references = references(count);
        let work = || {
            let compiled = compile(&objects, &references, &CompileOptions::default());
            (pack(&compiled.bundle), compiled.verdicts)
        };
        let (packed, verdicts) = work();
        ensure!(verdicts.values().all(|verdict| verdict.is_good()), "an object of the measurement is refused");
        let packed = packed?;
        let baseline = || -> Result<Vec<u8>> {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&serde_json::to_vec(&objects)?)?;
            Ok(encoder.finish()?)
        };
        let plain = baseline()?;
        let pair = repeated(|| drop(black_box(work())), || drop(black_box(baseline())));
        table.row(
            &format!("compile and pack, {count} objects"),
            &milliseconds(pair.one),
            &milliseconds(pair.other),
            &pair.ratio(),
        );
        table.row(
            &format!("bundle of {count} objects, a Secret each"),
            &format!("{} B", packed.len()),
            &format!("{} B", plain.len()),
            &ratio(packed.len(), plain.len()),
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn ratio(one: usize, other: usize) -> String {
    format!("{:.2}", one as f64 / other as f64)
}

/// Two mirrors, one of them with credentials of its own.
fn object(number: usize) -> Result<RegistryMirror> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "registry-mirror.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": format!("mirror-{number}")},
        "spec": {
            "registry": format!("registry{number}.example.com"),
            "mirrors": [
                {
                    "url": format!("https://harbor{}.example.com", number % 7),
                    "repositoryPrefix": format!("project-{number}"),
                    "auth": {"secretRef": {"name": secret(number)}},
                },
                {"url": "https://mirror.example.com"},
            ],
        },
    }))?)
}

fn secret(number: usize) -> String {
    format!("robot-{number}")
}

fn references(count: usize) -> References {
    let mut references = References::default();
    for number in 0..count {
        let data = [
            ("username".to_owned(), format!("robot$project-{number}").into_bytes()),
            ("password".to_owned(), password(number).into_bytes()),
        ];
        references.insert(Reference { kind: RefKind::Secret, name: secret(number) }, data.into());
    }
    references
}

/// 32 letters that do not compress: a multiplicative generator, so that every run measures the same.
fn password(number: usize) -> String {
    let mut state = (number as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..32)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap_or_default())
        })
        .collect()
}
