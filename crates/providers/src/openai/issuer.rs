//! Reads the name of the issuer from a certificate, for messages. A certificate is data in DER: nested elements, each
//! with a tag, a length and a content.

use docweir_core::display::printable_line;

/// Maximum length of a name, in characters.
const MOST: usize = 200;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
/// Tag of the version, which is left out in old certificates.
const VERSION: u8 = 0xa0;

/// Object ids of the parts of a name that are shown: the common name and the organisation.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Returns the issuer's common name and organisation. Returns `None` if the certificate names neither.
pub fn issuer(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // The serial number and the algorithm of the signature precede the issuer.
    let after_serial = element(rest)?.2;
    let (tag, name, _) = element(element(after_serial)?.2)?;
    if tag != SEQUENCE {
        return None;
    }
    let parts = [COMMON_NAME, ORGANISATION].into_iter().filter_map(|id| part(name, id));
    let text = parts.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then(|| printable_line(&text).chars().take(MOST).collect())
}

/// Returns the text of one part of a name.
fn part(mut name: &[u8], id: &[u8]) -> Option<String> {
    while let Some((tag, set, rest)) = element(name) {
        name = rest;
        let Some((SEQUENCE, pair, _)) = element(set).filter(|_| tag == SET) else { continue };
        let Some((OBJECT_ID, kind, value)) = element(pair) else { continue };
        if kind == id {
            return element(value).map(|(_, text, _)| String::from_utf8_lossy(text).into_owned());
        }
    }
    None
}

/// Splits data after its first element. Returns the tag and the content of the element, and the rest of the data.
fn element(data: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, data) = data.split_first()?;
    let (&first, data) = data.split_first()?;
    let (length, data) = match first {
        0..=0x7f => (usize::from(first), data),
        0x81..=0x84 => {
            let (bytes, data) = data.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte)), data)
        }
        _ => return None,
    };
    let (content, rest) = data.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_issuer_is_named_and_damage_is_no_harm() {
        let pem = include_bytes!("../../../testkit/certificates/server.pem");
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        assert_eq!(issuer(&certificate).as_deref(), Some("Example Private Authority, Example Company"));
        for end in 0..certificate.len() {
            let _ = issuer(&certificate[..end]);
        }
        for at in 0..certificate.len() {
            let mut damaged = certificate.to_vec();
            damaged[at] ^= 0xff;
            let _ = issuer(&damaged);
        }
        assert_eq!(issuer(&[]), None);
    }
}
