//! How many draws each cell gets of a number that is to be spent. Knows nothing of the store or of yields.

use crate::{Error, Result};

/// Divides `total` draws among cells in proportion to `weights`, with at least `floors[i]` for cell i.
///
/// A cell whose share would lie below its floor gets the floor, and the others share what is left, again in proportion,
/// until no share lies below. Shares are rounded by largest remainder (Hamilton's method): down, and then one draw more
/// for the largest fractions; of equal ones the first. The sum is `total` exactly, and apart from the floors every cell
/// is less than one draw from its share. All of it is integer arithmetic, so every platform gives the same; weights
/// count to 2^-63 of the largest.
///
/// # Errors
/// `Invalid` when floors exceed the total, for weights that are negative, not finite or all 0, and for lists of
/// different lengths.
pub fn allot(total: u32, weights: &[f64], floors: &[u32]) -> Result<Vec<u32>> {
    check(total, weights, floors)?;
    let weights = whole(weights);
    let mut given: Vec<u32> = floors.to_vec();
    let mut sharing: Vec<usize> = (0..weights.len()).collect();
    let mut rest = u128::from(total);
    let sum = loop {
        let sum: u128 = sharing.iter().map(|i| weights[*i]).sum();
        let fits = |i: &usize| rest * weights[*i] >= u128::from(floors[*i]) * sum;
        let (above, below): (Vec<usize>, Vec<usize>) = sharing.iter().copied().partition(fits);
        if below.is_empty() {
            break sum;
        }
        rest -= below.iter().map(|i| u128::from(floors[*i])).sum::<u128>();
        sharing = above;
    };
    for i in &sharing {
        // Below `total`, which fits.
        given[*i] = (rest * weights[*i] / sum) as u32;
    }
    let spent: u64 = given.iter().copied().map(u64::from).sum();
    // Stable, so of equal fractions the first comes first.
    sharing.sort_by_key(|i| std::cmp::Reverse(rest * weights[*i] % sum));
    for i in sharing.iter().take((u64::from(total) - spent) as usize) {
        given[*i] += 1;
    }
    Ok(given)
}

fn check(total: u32, weights: &[f64], floors: &[u32]) -> Result<()> {
    let wrong = |message: String| Err(Error::Invalid(message));
    if weights.len() != floors.len() {
        return wrong(format!("{} weights for {} floors", weights.len(), floors.len()));
    }
    if let Some(at) = weights
        .iter()
        .position(|weight| !(weight.is_finite() && *weight >= 0.0))
    {
        return wrong(format!("weight {at} is {}; give numbers of at least 0", weights[at]));
    }
    if !weights.iter().any(|weight| *weight > 0.0) {
        return wrong("no weight is above 0; at least one has to be".into());
    }
    let least: u64 = floors.iter().copied().map(u64::from).sum();
    if least > u64::from(total) {
        return wrong(format!(
            "the floors add up to {least} draws, more than the {total} there are; lower them, or give more draws"
        ));
    }
    Ok(())
}

/// The weights as integers: times the power of two that brings the largest to 64 bits, the rest cut off.
fn whole(weights: &[f64]) -> Vec<u128> {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let top = exponent(largest);
    weights
        .iter()
        .map(|weight| {
            // Makes 0 of -0, whose sign would be taken for a part of the exponent.
            let bits = (weight + 0.0).to_bits();
            let fraction = u128::from(bits & ((1 << 52) - 1));
            let mantissa = if bits >> 52 == 0 {
                fraction
            } else {
                fraction | (1 << 52)
            };
            // 2^11 times the mantissa fills 64 bits for the largest.
            (mantissa << 11).checked_shr(top - exponent(weight + 0.0)).unwrap_or(0)
        })
        .collect()
}

/// The biased exponent of a number of at least 0; subnormal numbers count as the smallest normal ones.
fn exponent(number: f64) -> u32 {
    ((number.to_bits() >> 52) as u32).max(1)
}
