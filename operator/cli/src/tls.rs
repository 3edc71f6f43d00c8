//! The process-wide TLS provider.

/// Makes ring the provider of every TLS connection. A second call changes nothing.
pub fn use_ring() {
    // The error says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
