//! Counter-based seeds: every random choice of a run is a hash of what it is for, so no generator state exists that
//! could be lost, shared between threads or advanced twice.
//!
//! The scheme, fixed for good (changing it would change every recorded plan):
//!
//! 1. Encode the fields in order. A text is its length in bytes (8 bytes, little endian) and its UTF-8 bytes; an
//!    integer is 8 bytes, little endian, two's complement. The first field is a text that names the purpose.
//!    Lengths come first, so no two different lists of fields of one purpose have the same encoding.
//! 2. Hash the bytes with XXH3-64, seed 0.
//! 3. Apply the finaliser of SplitMix64.
//!
//! | purpose | fields after it |
//! | --- | --- |
//! | `tso.draw.1` | run seed, iteration, prompt id, cell name, draw |
//! | `tso.shuffle.1` | run seed, epoch, prompt id |
//! | `tso.sit-out.1` | run seed, epoch, prompt id |
//!
//! Only integer arithmetic is involved, so every platform gives the same values.

use twox_hash::XxHash3_64;

/// The fields of one hash, in their encoded form.
struct Key(Vec<u8>);

impl Key {
    fn new(purpose: &str, run_seed: u64) -> Self {
        let mut key = Key(Vec::with_capacity(96));
        key.text(purpose);
        key.bits(run_seed);
        key
    }

    fn bits(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, value: &str) {
        self.bits(value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn hash(&self) -> u64 {
        finalise(XxHash3_64::oneshot(&self.0))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of one draw: one answer of one cell to one prompt in one iteration.
#[must_use]
pub fn draw_seed(run_seed: u64, iteration: i64, prompt_id: &str, cell: &str, draw: u32) -> u64 {
    let mut key = Key::new("tso.draw.1", run_seed);
    key.bits(iteration.cast_unsigned());
    key.text(prompt_id);
    key.text(cell);
    key.bits(u64::from(draw));
    key.hash()
}

/// The place of a prompt in the shuffle of an epoch: prompts are walked by ascending key.
#[must_use]
pub fn shuffle_key(run_seed: u64, epoch: u64, prompt_id: &str) -> u64 {
    of_epoch("tso.shuffle.1", run_seed, epoch, prompt_id)
}

/// Whether a prompt of this weight is left out of an epoch: true with probability `1 - weight`.
///
/// One uniform number of an epoch and prompt decides for every weight, so raising a weight never takes a prompt out.
#[must_use]
pub fn sits_out(run_seed: u64, epoch: u64, prompt_id: &str, weight: f64) -> bool {
    let hash = of_epoch("tso.sit-out.1", run_seed, epoch, prompt_id);
    // The top 53 bits, exact in a double, as a number in [0, 1).
    let uniform = (hash >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
    uniform >= weight
}

fn of_epoch(purpose: &str, run_seed: u64, epoch: u64, prompt_id: &str) -> u64 {
    let mut key = Key::new(purpose, run_seed);
    key.bits(epoch);
    key.text(prompt_id);
    key.hash()
}
