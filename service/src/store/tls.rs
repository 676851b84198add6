//! One way to make a TLS client: ring, the machine's own root certificates, nothing unverified.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::StoreError;

/// A verifying client configuration with the machine's roots. Reads them from disk: blocks for some milliseconds.
pub(crate) fn native_client_config() -> Result<ClientConfig, StoreError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(StoreError::Config(
            "TLS is asked for, but this machine has no root certificates: install them (ca-certificates) or name a file in SSL_CERT_FILE"
                .to_owned(),
        ));
    }
    client_config(roots)
}

/// For plain `http://` endpoints, where no certificate will ever be looked at: trusts nobody.
pub(crate) fn rootless_client_config() -> Result<ClientConfig, StoreError> {
    client_config(RootCertStore::empty())
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::Config(format!("TLS can't be set up: {e}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
