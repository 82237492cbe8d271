//! The owners' signatures and certificates to and from their protobuf form.

use bytes::Bytes;

use super::protobuf::{name, too_large};
use crate::wire::claims::{
    CHAIN_LEN_MAX, CertificateId, HeadProof, OwnerCertificate, ROOT_LEN, Root, SIGNATURE_LEN_MAX,
};
use crate::wire::generated;
use crate::wire::malformed::{FieldFault, MalformedMessage};

impl From<&HeadProof> for generated::HeadProof {
    fn from(proof: &HeadProof) -> Self {
        Self {
            root: proof.root.0.to_vec(),
            certificate: proof.certificate.0,
            scheme: proof.scheme.into(),
            signature: proof.signature.to_vec(),
        }
    }
}

impl TryFrom<generated::HeadProof> for HeadProof {
    type Error = MalformedMessage;

    fn try_from(proof: generated::HeadProof) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "HeadProof";
        let root = proof.root.try_into().map_err(|root: Vec<u8>| {
            let fault = FieldFault::Length {
                length: root.len(),
                expected: ROOT_LEN,
            };
            fault.at(MESSAGE, "root")
        })?;
        let scheme = u16::try_from(proof.scheme)
            .map_err(|_| too_large(proof.scheme, u16::MAX.into()).at(MESSAGE, "scheme"))?;
        Ok(Self {
            root: Root(root),
            certificate: CertificateId(proof.certificate),
            scheme,
            signature: some(proof.signature, SIGNATURE_LEN_MAX)
                .map_err(|fault| fault.at(MESSAGE, "signature"))?,
        })
    }
}

impl From<&OwnerCertificate> for generated::OwnerCertificate {
    fn from(certificate: &OwnerCertificate) -> Self {
        Self {
            owner: certificate.owner.as_str().to_owned(),
            chain: certificate.chain.to_vec(),
        }
    }
}

impl TryFrom<generated::OwnerCertificate> for OwnerCertificate {
    type Error = MalformedMessage;

    fn try_from(certificate: generated::OwnerCertificate) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "OwnerCertificate";
        Ok(Self {
            owner: name(&certificate.owner).map_err(|fault| fault.at(MESSAGE, "owner"))?,
            chain: some(certificate.chain, CHAIN_LEN_MAX)
                .map_err(|fault| fault.at(MESSAGE, "chain"))?,
        })
    }
}

/// Bytes, of which there has to be one and may be so many.
fn some(bytes: Vec<u8>, limit: usize) -> Result<Bytes, FieldFault> {
    match bytes.len() {
        0 => Err(FieldFault::Missing),
        length if length > limit => Err(FieldFault::TooLong { length, limit }),
        _ => Ok(bytes.into()),
    }
}
