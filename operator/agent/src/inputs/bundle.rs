//! The bundle out of its Secret.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use registry_mirror_core::bundle::{self, BUNDLE_KEY, Bundle};

use super::known::Known;

pub(super) fn read(secret: &Secret) -> Known<Arc<Bundle>> {
    // The chart makes the Secret, so that it goes with the release; the controller fills it.
    let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(BUNDLE_KEY)) else { return Known::Absent };
    match bundle::unpack(&bytes.0) {
        Ok(bundle) => Known::Is(Arc::new(bundle)),
        Err(error) => Known::Unusable(error.to_string()),
    }
}
