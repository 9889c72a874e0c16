//! Verifies the certificates of servers, and says what is wrong with a certificate that is not trusted.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::issuer::issuer;

/// Describes a certificate that is not trusted.
#[derive(Debug)]
struct UntrustedCertificate(String);

impl fmt::Display for UntrustedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UntrustedCertificate {}

/// Returns a configuration that trusts the certificate authorities of this machine, or those in the file that
/// `SSL_CERT_FILE` names. If there are none, only encrypted connections fail.
///
/// # Errors
/// Fails if the cryptography provider does not support the TLS versions.
pub fn config() -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    // Files that cannot be read are left out. If nothing is left, the error of a connection says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok();
    let verifier = Arc::new(Verifier { authorities, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Returns the text about a certificate that is not trusted, if this is what an error says.
pub fn untrusted(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    match error.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => Some(inner.to_string()),
        Error::InvalidCertificate(error) => Some(format!("the certificate of the server is not valid ({error})")),
        _ => None,
    }
}

/// Verifies certificates as usual, and describes a certificate of an unknown authority.
#[derive(Debug)]
struct Verifier {
    /// Absent if this machine has no certificate authorities.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

fn refuse(text: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(UntrustedCertificate(text)))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            let text = "this machine has no certificate authorities: install the package ca-certificates, or name a PEM \
                        file with them in SSL_CERT_FILE";
            return Err(refuse(text.into()));
        };
        authorities.verify_server_cert(certificate, intermediates, server, ocsp, now).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let of = intermediates.last().unwrap_or(certificate);
                let issuer = issuer(of).unwrap_or_else(|| "an unnamed authority".into());
                refuse(format!(
                    "the certificate of {} is not trusted, because it was issued by `{issuer}`, which is not among the \
                     certificate authorities of this machine: add the authority's certificate to a PEM file, and name \
                     the file in SSL_CERT_FILE",
                    server.to_str()
                ))
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
