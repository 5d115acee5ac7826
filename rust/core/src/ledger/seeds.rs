//! Counter-based seeds: a seed is a pure function of what it is for, the same on every platform and in every version.
//!
//! `seed = mix(XXH3-64(encoding))`. The encoding is the run seed as 8 little-endian bytes, then every part as its
//! length (8 little-endian bytes) and its UTF-8 bytes, so that no two lists of parts share an encoding. `mix` is the
//! finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).

use xxhash_rust::xxh3::xxh3_64;

/// The seed of whatever `parts` name within a run.
#[must_use]
pub fn seed(run_seed: u64, parts: &[&str]) -> u64 {
    let mut bytes = run_seed.to_le_bytes().to_vec();
    for part in parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    mix(xxh3_64(&bytes))
}

/// The seed of one draw.
#[must_use]
pub fn draw_seed(run_seed: u64, iteration: i64, purpose: &str, prompt: &str, cell: &str, draw: i64) -> u64 {
    let (iteration, draw) = (iteration.to_string(), draw.to_string());
    seed(run_seed, &["draw", purpose, &iteration, prompt, cell, &draw])
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_coordinate_matters_and_parts_do_not_run_together() {
        let mut seen = HashSet::new();
        for run in 0..2 {
            for iteration in 0..3 {
                for prompt in ["a", "ab", ""] {
                    for cell in ["bc", "c"] {
                        for draw in 0..3 {
                            assert!(seen.insert(draw_seed(run, iteration, "train", prompt, cell, draw)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_finaliser_is_splitmix64() {
        // The first output of SplitMix64 from state 0 is mix(golden gamma); the value is in the generator's literature.
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
    }
}
