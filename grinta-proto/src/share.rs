//! Shares of a number of nodes.

/// A share of some nodes, from none of them to all, in steps of a millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    millionths: u32,
}

/// A number that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given} is no share; it must be 0 to 1")]
#[non_exhaustive]
pub struct InvalidShare {
    /// The number.
    pub given: String,
}

impl Share {
    /// Two thirds, in two digits: what a vote takes unless it says otherwise.
    pub const TWO_THIRDS: Self = Self {
        millionths: 670_000,
    };

    /// A share from 0 to 1, rounded to a millionth.
    ///
    /// # Errors
    /// [`InvalidShare`] if it is less, more, or no number.
    pub fn new(share: f64) -> Result<Self, InvalidShare> {
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidShare {
                given: share.to_string(),
            });
        }
        let millionths = (share * f64::from(MILLION)).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is a whole number from nought to a million"
        )]
        let millionths = millionths as u32;
        Ok(Self { millionths })
    }

    /// The least number of nodes that is no less than this share of `count`.
    #[must_use]
    pub fn of(self, count: usize) -> usize {
        let part = count as u128 * u128::from(self.millionths);
        let whole = part.div_ceil(u128::from(MILLION));
        usize::try_from(whole).expect("a part of a usize")
    }
}

const MILLION: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_to_whole_nodes() {
        let of = |share, count| Share::new(share).unwrap().of(count);
        assert_eq!(
            [0, 1, 3, 4, 100].map(|count| of(0.67, count)),
            [0, 1, 3, 3, 67]
        );
        assert_eq!([0, 1, 2, 3].map(|count| of(0.5, count)), [0, 1, 1, 2]);
        assert_eq!(of(1.0 / 3.0, 3), 1);
        assert_eq!(of(1.0, usize::MAX), usize::MAX);
        assert_eq!((of(0.0, 9), of(1.0, 9)), (0, 9));
        assert_eq!(Share::new(0.67), Ok(Share::TWO_THIRDS));
    }

    #[test]
    fn what_is_no_share_is_named() {
        for given in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            let error = Share::new(given).unwrap_err();
            assert!(error.to_string().ends_with("it must be 0 to 1"), "{error}");
        }
    }
}
