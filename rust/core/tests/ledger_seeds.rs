//! Seeds are part of the format of a store: these values never change. They were computed with another
//! implementation of XXH3 (the Python package xxhash) from the description at the head of `seeds.rs`.

use tso_core::ledger::{draw_seed, shuffle_key, sits_out};

#[test]
fn draw_seeds_are_fixed() {
    let long = "x".repeat(300);
    for (seed, expected) in [
        (draw_seed(0, 0, "", "", 0), 0xca3f_700b_a5fa_5507),
        (draw_seed(17, 1, "p1", "policy", 0), 0xdca2_2b04_82e3_392c),
        (draw_seed(17, 1, "p1", "policy", 1), 0x6c04_6cf8_0d5a_0311),
        (draw_seed(17, 1, "p1p", "olicy", 0), 0x8912_8eca_dbe2_9ab7),
        (draw_seed(17, 1, &long, "policy", 0), 0x9a77_6487_13d5_9dc9),
        (
            draw_seed(u64::MAX, -1, "größe", "参照@0.7", u32::MAX),
            0x1510_b15f_f1ab_d3d1,
        ),
    ] {
        assert_eq!(seed, expected, "{seed:#x}");
    }
}

#[test]
fn epoch_keys_are_fixed() {
    assert_eq!(shuffle_key(17, 3, "p1"), 0x0557_7a74_5160_40a9);
    // tso.sit-out.1 of the same fields is 0x539511146e439154, which is 0.326493 of 2^64.
    assert!(sits_out(17, 3, "p1", 0.326_493));
    assert!(!sits_out(17, 3, "p1", 0.326_494));
}

#[test]
fn weights_at_the_ends_leave_nothing_to_chance() {
    for epoch in 0..1000 {
        assert!(!sits_out(5, epoch, "p", 1.0));
        assert!(sits_out(5, epoch, "p", 0.0));
    }
}

#[test]
fn a_prompt_sits_out_as_often_as_its_weight_says() {
    for weight in [0.1, 0.25, 0.5, 0.9] {
        let out = (0..20_000).filter(|epoch| sits_out(5, *epoch, "p", weight)).count();
        let share = out as f64 / 20_000.0;
        // Four standard deviations.
        let bound = 4.0 * (weight * (1.0 - weight) / 20_000.0_f64).sqrt();
        assert!((share - (1.0 - weight)).abs() < bound, "{weight} {share}");
    }
}

#[test]
fn no_two_draws_of_a_run_share_a_seed() {
    let mut seeds = std::collections::HashSet::new();
    for iteration in 0..4 {
        for prompt in 0..100 {
            for cell in ["reference", "policy", "policy@1"] {
                for draw in 0..8 {
                    let id = format!("p{prompt}");
                    assert!(seeds.insert(draw_seed(1, iteration, &id, cell, draw)));
                }
            }
        }
    }
}
