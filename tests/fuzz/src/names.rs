//! Names.

use grinta_proto::{CodecId, EndpointName, FabricName, InvalidName, NAME_LEN_MAX, NodeName};

/// Any string: it is a name exactly if it is one to 128 characters of `[A-Za-z0-9.-]`, for all
/// kinds of names alike, and a name displays as it was parsed.
///
/// # Panics
/// If a law is broken.
pub fn name_rules(data: &[u8]) {
    let Ok(string) = str::from_utf8(data) else {
        return;
    };
    let allowed = |c: char| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '-');
    let expected = match string.chars().find(|&c| !allowed(c)) {
        _ if string.is_empty() => Err(InvalidName::Empty),
        _ if string.len() > NAME_LEN_MAX => Err(InvalidName::TooLong {
            length: string.len(),
        }),
        Some(character) => Err(InvalidName::Character {
            name: string.to_owned(),
            character,
        }),
        None => Ok(string.to_owned()),
    };
    assert_eq!(
        EndpointName::new(string).map(|name| name.to_string()),
        expected
    );
    assert_eq!(
        FabricName::new(string).map(|name| name.to_string()),
        expected
    );
    let node = NodeName::new(string);
    assert_eq!(
        node.as_ref().map(ToString::to_string),
        expected.as_ref().cloned()
    );
    match node {
        Ok(node) => assert_eq!(node.as_str().parse(), Ok(node)),
        // Escaped, a character of one byte takes six.
        Err(error) => assert!(error.to_string().len() <= 6 * NAME_LEN_MAX + 200),
    }

    if let Ok(id) = CodecId::new(string.to_owned()) {
        assert_eq!(id.as_str(), string);
        assert!(!string.is_empty());
    }
}
